//! What the sidecar and the ZenML server behind it agree upon.
//!
//! The server believes who brings a token that is signed with a secret of its own; that secret and the
//! others are derived from the pepper, which is made once and never lost, so that the sidecar knows
//! them without being told.

/// Where the ZenML server listens: in the pod alone, so that nobody comes to it but by the sidecar.
pub const ADDRESS: &str = "127.0.0.1:8237";

/// The administrator that the server makes for itself at its first start, as whom the sidecar makes
/// all others.
pub const ADMINISTRATOR: &str = "zenop";

/// Who issues the tokens, and for whom they are.
pub const ISSUER: &str = "zenop";

/// The environment of the server, but for what is secret.
pub const PLAIN: [(&str, &str); 9] = [
    ("ZENML_SERVER", "true"),
    ("ZENML_SERVER_AUTH_SCHEME", "OAUTH2_PASSWORD_BEARER"),
    ("ZENML_SERVER_AUTO_ACTIVATE", "true"),
    ("ZENML_SERVER_JWT_TOKEN_ALGORITHM", "HS256"),
    ("ZENML_SERVER_JWT_TOKEN_AUDIENCE", ISSUER),
    ("ZENML_SERVER_JWT_TOKEN_ISSUER", ISSUER),
    ("ZENML_DEFAULT_USER_NAME", ADMINISTRATOR),
    ("ZENML_SECRETS_STORE_TYPE", "sql"),
    ("ZENML_STORE_TYPE", "sql"),
];

/// Set in the pods, whose database a Job has migrated.
pub const NO_MIGRATION: &str = "DISABLE_DATABASE_MIGRATION";

/// What the secret is derived for that signs tokens.
pub const SECRET_OF_TOKENS: &str = "tokens";

/// What the administrator's password is derived for.
pub const PASSWORD: &str = "administrator";

/// The secret variables, each with what its value is derived for.
pub const SECRET: [(&str, &str); 3] = [
    ("ZENML_SERVER_JWT_SECRET_KEY", SECRET_OF_TOKENS),
    ("ZENML_DEFAULT_USER_PASSWORD", PASSWORD),
    ("ZENML_SECRETS_STORE_ENCRYPTION_KEY", "secrets"),
];
