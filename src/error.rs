//! What can go wrong, and what to do then.
//!
//! One [`Error`] for the whole program. Its [`Code`] says what the caller should do (fix it, try
//! again, wait or pay, stop) and maps, in one exhaustive table, to the SQLSTATE a client acts on.
//! A message never holds a row's value, a vector, a key or another tenant's name.

use std::fmt;

/// The result type of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($( $(#[$doc:meta])* $name:ident = $state:literal, $action:ident; )*) => {
        /// Which situation arose. The SQLSTATE is PostgreSQL's for the same situation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( $(#[$doc])* $name, )* }

        impl Code {
            /// Every code there is, for documentation and tests.
            pub const ALL: &'static [Code] = &[ $( Code::$name, )* ];

            /// The five characters sent to the client.
            pub const fn sqlstate(self) -> &'static str { match self { $( Code::$name => $state, )* } }

            /// What the caller should do about it.
            pub const fn action(self) -> Action { match self { $( Code::$name => Action::$action, )* } }
        }
    };
}

/// What the caller of a failed statement should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The statement, its values or the login is wrong: change it.
    Fix,
    /// Nothing is wrong with the statement: the same one may succeed now.
    Retry,
    /// A limit is reached: wait, pay or ask for more.
    Wait,
    /// The server cannot go on with this: ask whoever runs it.
    Stop,
}

codes! {
    /// Bytes on the wire that the protocol does not allow.
    ProtocolViolation = "08P01", Fix;
    /// A statement this server does not do.
    Unsupported = "0A000", Fix;
    CardinalityViolation = "21000", Fix;
    DataException = "22000", Fix;
    /// Text or a list that does not fit its column.
    StringTooLong = "22001", Fix;
    NumericOutOfRange = "22003", Fix;
    NullValueNotAllowed = "22004", Fix;
    InvalidDatetime = "22007", Fix;
    DatetimeOverflow = "22008", Fix;
    DivisionByZero = "22012", Fix;
    InvalidRegex = "2201B", Fix;
    InvalidLogArgument = "2201E", Fix;
    InvalidPowerArgument = "2201F", Fix;
    SubstringError = "22011", Fix;
    InvalidEncoding = "22021", Fix;
    InvalidParameterValue = "22023", Fix;
    InvalidText = "22P02", Fix;
    InvalidBinary = "22P03", Fix;
    /// Bytes of a COPY that are no row.
    BadCopyFormat = "22P04", Fix;
    /// A sequence has given its last number.
    SequenceExhausted = "2200H", Fix;
    NotNull = "23502", Fix;
    ForeignKeyViolation = "23503", Fix;
    UniqueViolation = "23505", Fix;
    CheckViolation = "23514", Fix;
    ActiveTransaction = "25001", Fix;
    ReadOnlyTransaction = "25006", Fix;
    NoActiveTransaction = "25P01", Fix;
    InFailedTransaction = "25P02", Fix;
    IdleInTransaction = "25P03", Retry;
    InvalidStatementName = "26000", Fix;
    /// Something else needs what shall be dropped.
    DependentObjects = "2BP01", Fix;
    /// The login is over: the tenant or the user no longer exists or is suspended.
    InvalidAuthorization = "28000", Fix;
    /// Unknown tenant, unknown user and wrong password alike.
    InvalidPassword = "28P01", Fix;
    InvalidCursorName = "34000", Fix;
    InvalidSavepoint = "3B001", Fix;
    UndefinedDatabase = "3D000", Fix;
    InvalidSchemaName = "3F000", Fix;
    SerializationFailure = "40001", Retry;
    DeadlockDetected = "40P01", Retry;
    InsufficientPrivilege = "42501", Fix;
    Syntax = "42601", Fix;
    DuplicateColumn = "42701", Fix;
    AmbiguousColumn = "42702", Fix;
    UndefinedColumn = "42703", Fix;
    UndefinedObject = "42704", Fix;
    DuplicateObject = "42710", Fix;
    GroupingError = "42803", Fix;
    DatatypeMismatch = "42804", Fix;
    WrongObjectType = "42809", Fix;
    InvalidForeignKey = "42830", Fix;
    /// A value for a column that is always generated.
    GeneratedAlways = "428C9", Fix;
    CannotCoerce = "42846", Fix;
    UndefinedFunction = "42883", Fix;
    UndefinedTable = "42P01", Fix;
    UndefinedParameter = "42P02", Fix;
    DuplicateCursor = "42P03", Fix;
    DuplicatePrepared = "42P05", Fix;
    ReservedName = "42939", Fix;
    DuplicateSchema = "42P06", Fix;
    DuplicateTable = "42P07", Fix;
    InvalidColumnReference = "42P10", Fix;
    InvalidCursorDefinition = "42P11", Fix;
    InvalidTableDefinition = "42P16", Fix;
    /// Policies or views that read themselves.
    InvalidObjectDefinition = "42P17", Fix;
    DiskFull = "53100", Wait;
    OutOfMemory = "53200", Wait;
    TooManyConnections = "53300", Wait;
    LimitReached = "53400", Wait;
    TooLarge = "54000", Fix;
    TooComplex = "54001", Fix;
    NotReady = "55000", Wait;
    LockNotAvailable = "55P03", Retry;
    QueryCanceled = "57014", Retry;
    Shutdown = "57P01", Retry;
    IdleTimeout = "57P05", Retry;
    Io = "58030", Stop;
    /// A provider of models failed; what it said is in the detail.
    ProviderFailed = "58030", Retry;
    /// Nothing of this id is here, be it another user's, another tenant's or nobody's.
    NoDataFound = "P0002", Fix;
    /// A stored value that does not open under its tenant's key.
    Corrupted = "XX001", Stop;
    /// A defect of this program. The text shown holds an opaque id, the log holds the cause.
    Internal = "XX000", Stop;
}

/// An error, ready to be shown to the tenant who caused it.
pub struct Error {
    code: Code,
    message: String,
    more: Option<Box<More>>,
}

#[derive(Default)]
struct More {
    detail: Option<String>,
    hint: Option<String>,
    reason: Option<&'static str>,
    position: Option<usize>,
    context: Option<String>,
    object: Object,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What an error is about, for programs: each is sent in a field of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// The schema of the table.
    pub schema: Option<String>,
    /// The table.
    pub table: Option<String>,
    /// The column.
    pub column: Option<String>,
    /// The type.
    pub data_type: Option<String>,
    /// The constraint.
    pub constraint: Option<String>,
}

impl Error {
    /// An error of this code with a message that says what is wrong.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            more: None,
        }
    }

    /// A defect of ours: the client sees an id, the log gets the cause.
    pub fn internal(cause: impl fmt::Display) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        tracing::error!(id, %cause, "internal error");
        Self::new(Code::Internal, format!("internal error {id}"))
            .with_hint("this is a defect of the server; give its operator the id")
    }

    /// What to do next, in words.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.more().hint = Some(hint.into());
        self
    }

    /// Facts for people or, where a program reads them, JSON.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.more().detail = Some(detail.into());
        self
    }

    /// A stable word for programs, sent in the constraint-name field.
    #[must_use]
    pub fn with_reason(mut self, reason: &'static str) -> Self {
        self.more().reason = Some(reason);
        self
    }

    /// The table that it is about.
    #[must_use]
    pub fn with_table(mut self, schema: &str, table: &str) -> Self {
        let object = &mut self.more().object;
        object.schema = Some(schema.to_owned());
        object.table = Some(table.to_owned());
        self
    }

    /// The column that it is about.
    #[must_use]
    pub fn with_column(mut self, column: &str) -> Self {
        self.more().object.column = Some(column.to_owned());
        self
    }

    /// The constraint that does not hold.
    #[must_use]
    pub fn with_constraint(mut self, constraint: &str) -> Self {
        self.more().object.constraint = Some(constraint.to_owned());
        self
    }

    /// Where in the statement, as a 1-based character position.
    #[must_use]
    pub fn with_position(mut self, position: usize) -> Self {
        self.more().position = Some(position);
        self
    }

    /// Where in what the client sent beside the statement, as PostgreSQL's CONTEXT says it.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> Self {
        self.more().context = Some(context.into());
        self
    }

    /// What caused it; logged, never shown to a client.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.more().source = Some(source.into());
        self
    }

    /// The same words for another reader; the cause stays with the first.
    #[must_use]
    pub fn copy(&self) -> Self {
        let more = self.more.as_ref().map(|m| {
            Box::new(More {
                detail: m.detail.clone(),
                hint: m.hint.clone(),
                reason: m.reason,
                position: m.position,
                context: m.context.clone(),
                object: m.object.clone(),
                source: None,
            })
        });
        Self {
            code: self.code,
            message: self.message.clone(),
            more,
        }
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The situation.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence shown to the user.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// See [`Error::with_detail`].
    pub fn detail(&self) -> Option<&str> {
        self.more.as_ref()?.detail.as_deref()
    }

    /// See [`Error::with_hint`].
    pub fn hint(&self) -> Option<&str> {
        self.more.as_ref()?.hint.as_deref()
    }

    /// See [`Error::with_reason`].
    pub fn reason(&self) -> Option<&'static str> {
        self.more.as_ref()?.reason
    }

    /// See [`Error::with_context`].
    pub fn context(&self) -> Option<&str> {
        self.more.as_ref()?.context.as_deref()
    }

    /// What it is about.
    pub fn object(&self) -> Option<&Object> {
        self.more.as_ref().map(|more| &more.object)
    }

    /// See [`Error::with_position`].
    pub fn position(&self) -> Option<usize> {
        self.more.as_ref()?.position
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = self.hint() {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", self.code.sqlstate())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.more.as_ref()?.source.as_deref().map(|e| e as _)
    }
}
