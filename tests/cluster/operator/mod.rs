//! The operator's behaviour on a real API server.

mod conflict;
mod drift;
mod edits;
mod lost;
mod main_job;
mod parties;
mod rest;
mod schema;
