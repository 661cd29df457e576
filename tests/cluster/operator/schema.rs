//! What the API server itself refuses and fills in.
