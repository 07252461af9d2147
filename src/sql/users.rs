//! `CREATE | ALTER | DROP USER`, in PostgreSQL's spelling, which the SQL parser does not take.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::world::TenantWorld;
use crate::{
    error::{Code, Error, Result},
    policy::audit::{Class, Entry},
    tenant::{Role, User},
};

/// A change to the users of the session's own tenant.
#[derive(Clone)]
pub(super) enum UserStatement {
    Create {
        name: String,
        password: String,
        role: Role,
    },
    Alter {
        name: String,
        password: Option<String>,
        role: Option<Role>,
    },
    Drop {
        names: Vec<String>,
        if_exists: bool,
    },
}

impl std::fmt::Debug for UserStatement {
    /// Never the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.tag())
    }
}

impl UserStatement {
    /// The command tag PostgreSQL answers with.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CREATE ROLE",
            Self::Alter { .. } => "ALTER ROLE",
            Self::Drop { .. } => "DROP ROLE",
        }
    }

    /// Whom it changes.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::Create { name, .. } | Self::Alter { name, .. } => std::slice::from_ref(name),
            Self::Drop { names, .. } => names,
        }
    }

    /// Parses the tokens of one statement, white space left out.
    pub(super) fn parse(tokens: &[&Token]) -> Result<Self> {
        let mut words = Words { tokens, at: 2 };
        let drop = words.first() == "DROP";
        let if_exists = drop && words.keyword("IF") && words.must("EXISTS")?;
        let name = words.name()?;
        if drop {
            let mut names = vec![name];
            while words.comma() {
                names.push(words.name()?);
            }
            words.end()?;
            return Ok(Self::Drop { names, if_exists });
        }
        let (mut password, mut role) = (None, None);
        words.keyword("WITH");
        while !words.at_end() {
            if words.keyword("LOGIN") || words.keyword("ENCRYPTED") {
                continue;
            }
            if words.keyword("PASSWORD") {
                password = Some(words.string()?);
            } else if words.keyword("IN") {
                words.must("ROLE")?;
                let name = words.name()?;
                role = Some(Role::parse(&name).ok_or_else(|| {
                    Error::new(Code::UndefinedObject, format!("role \"{name}\" does not exist"))
                        .with_hint("roles are owner, member, analyst and service")
                })?);
            } else {
                return Err(words.unexpected());
            }
        }
        match words.first().as_str() {
            "ALTER" => Ok(Self::Alter { name, password, role }),
            _ => Ok(Self::Create {
                password: password.ok_or_else(|| {
                    Error::new(Code::InvalidParameterValue, format!("user \"{name}\" needs a password"))
                        .with_hint("CREATE USER name PASSWORD '...' [IN ROLE member|analyst|service|owner]")
                })?,
                name,
                role: role.unwrap_or(Role::Member),
            }),
        }
    }

    /// Whether the user changes no more than their own password.
    pub(super) fn is_own_password(&self, actor: &User) -> bool {
        matches!(self, Self::Alter { name, role: None, .. } if *name == actor.name)
    }

    /// Carries it out for a user who must be an owner, or who changes no more than their own password. Each
    /// change and its entry in the log are one commit.
    pub(super) async fn run(&self, world: &TenantWorld) -> Result<()> {
        let (tenant, actor) = (&world.tenant, &world.user);
        if actor.role != Role::Owner && !self.is_own_password(actor) {
            return Err(
                Error::new(Code::InsufficientPrivilege, "permission denied to change users")
                    .with_hint("ask a user of role owner"),
            );
        }
        let entry = |name: &str| {
            let entry = Entry::now(&actor.name, Class::Users, self.tag()).on(name);
            let entry = match self {
                Self::Create { role, .. } | Self::Alter { role: Some(role), .. } => {
                    entry.with(&serde_json::json!({"role": role.as_str()}))
                }
                Self::Alter { .. } | Self::Drop { .. } => entry,
            };
            world.state.log.wants(Class::Users, true).then(|| entry.encode())
        };
        match self {
            Self::Create { name, password, role } => tenant.create_user(name, password, *role, entry(name)).await,
            Self::Alter { name, password, role } => {
                tenant.alter_user(name, password.as_deref(), *role, entry(name)).await
            }
            Self::Drop { names, if_exists } => {
                for name in names {
                    match tenant.drop_user(name, entry(name)).await {
                        Err(e) if *if_exists && e.code() == Code::UndefinedObject => {}
                        other => other?,
                    }
                }
                Ok(())
            }
        }
    }

    /// The operator's plane has no users to change.
    pub(super) fn refuse_operator() -> Error {
        Error::new(
            Code::Unsupported,
            "the operator's plane has no users of its own to change",
        )
        .with_hint("connect to the tenant as its owner")
    }
}

struct Words<'a> {
    tokens: &'a [&'a Token],
    at: usize,
}

impl Words<'_> {
    fn first(&self) -> String {
        self.tokens
            .first()
            .map(|t| t.to_string().to_ascii_uppercase())
            .unwrap_or_default()
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).copied().filter(|t| **t != Token::EOF)
    }

    fn at_end(&self) -> bool {
        self.peek().is_none()
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn must(&mut self, keyword: &str) -> Result<bool> {
        if self.keyword(keyword) {
            Ok(true)
        } else {
            Err(self.unexpected())
        }
    }

    fn comma(&mut self) -> bool {
        let found = matches!(self.peek(), Some(Token::Comma));
        self.at += usize::from(found);
        found
    }

    fn name(&mut self) -> Result<String> {
        let name = match self.peek() {
            Some(Token::Word(w)) if w.quote_style.is_some() => w.value.clone(),
            Some(Token::Word(w)) => w.value.to_lowercase(),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(name)
    }

    fn string(&mut self) -> Result<String> {
        let text = match self.peek() {
            Some(Token::SingleQuotedString(s) | Token::EscapedStringLiteral(s)) => s.clone(),
            Some(Token::DollarQuotedString(s)) => s.value.clone(),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(text)
    }

    fn end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Names the kind of token only: the text may be a password.
    fn unexpected(&self) -> Error {
        match self.peek() {
            None => Error::new(Code::Syntax, "syntax error at end of input"),
            Some(Token::Word(w)) if w.quote_style.is_none() => {
                Error::new(Code::Syntax, format!("syntax error at or near \"{}\"", w.value))
            }
            Some(_) => Error::new(Code::Syntax, "syntax error in the options of a user"),
        }
        .with_hint("CREATE USER name PASSWORD '...' [IN ROLE member|analyst|service|owner]")
    }
}
