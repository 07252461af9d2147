//! Errors and notices as the client reads them.

use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use crate::{error::Error, sql::Notice};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
}

/// The ErrorResponse of an error.
pub(super) fn error(severity: Severity, error: &Error) -> ErrorResponse {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    let mut fields = common(severity, error.code().sqlstate(), error.message());
    let object = error.object().cloned().unwrap_or_default();
    let optional = [
        (b'D', error.detail().map(str::to_owned)),
        (b'H', error.hint().map(str::to_owned)),
        (b'P', error.position().map(|position| position.to_string())),
        (b'W', error.context().map(str::to_owned)),
        (b's', object.schema),
        (b't', object.table),
        (b'c', object.column),
        (b'd', object.data_type),
        (b'n', object.constraint.or_else(|| error.reason().map(str::to_owned))),
    ];
    fields.extend(
        optional
            .into_iter()
            .filter_map(|(field, text)| Some((field, clean(&text?)))),
    );
    ErrorResponse::new(fields)
}

/// The NoticeResponse of a notice.
pub(super) fn notice(notice: &Notice) -> NoticeResponse {
    let mut fields = common(notice.severity, notice.code, &notice.message);
    fields.extend(notice.hint.as_deref().map(|hint| (b'H', clean(hint))));
    NoticeResponse::new(fields)
}

fn common(severity: &str, code: &str, message: &str) -> Vec<(u8, String)> {
    vec![
        (b'S', clean(severity)),
        (b'V', clean(severity)),
        (b'C', clean(code)),
        (b'M', clean(message)),
    ]
}

/// Text for a NUL-terminated field: a NUL inside would end it and let the rest pass for other fields.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn every_part_has_its_field() {
        let failed = Error::new(Code::LimitReached, "no\0money")
            .with_detail("{}")
            .with_hint("pay")
            .with_reason("budget_exceeded")
            .with_position(7)
            .with_context("COPY t, line 2");
        let fields = error(Severity::Fatal, &failed).fields;
        let text = |field| fields.iter().find(|(f, _)| *f == field).map(|(_, t)| t.as_str());
        assert_eq!(text(b'S'), Some("FATAL"));
        assert_eq!(text(b'V'), Some("FATAL"));
        assert_eq!(text(b'C'), Some("53400"));
        assert_eq!(text(b'M'), Some("no\u{fffd}money"));
        assert_eq!(text(b'D'), Some("{}"));
        assert_eq!(text(b'H'), Some("pay"));
        assert_eq!(text(b'P'), Some("7"));
        assert_eq!(text(b'W'), Some("COPY t, line 2"));
        assert_eq!(text(b'n'), Some("budget_exceeded"));
        assert_eq!(error(Severity::Error, &Error::new(Code::Syntax, "x")).fields.len(), 4);
        let failed = Error::new(Code::UniqueViolation, "twice")
            .with_table("public", "t")
            .with_column("a")
            .with_constraint("t_pkey");
        let fields = error(Severity::Error, &failed).fields;
        let text = |field| fields.iter().find(|(f, _)| *f == field).map(|(_, t)| t.as_str());
        assert_eq!((text(b's'), text(b't')), (Some("public"), Some("t")));
        assert_eq!((text(b'c'), text(b'n')), (Some("a"), Some("t_pkey")));
        assert_eq!(text(b'd'), None);
    }

    #[test]
    fn a_notice_says_what_it_is() {
        let said = Notice {
            severity: "WARNING",
            code: "25P01",
            message: "no".into(),
            hint: Some("h".into()),
        };
        assert_eq!(notice(&said).fields[0], (b'S', "WARNING".to_owned()));
        assert_eq!(notice(&said).fields[4], (b'H', "h".to_owned()));
    }
}
