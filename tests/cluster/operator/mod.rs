//! The operator's behaviour on a real API server.

mod apiserver;
mod conflict;
mod crash;
mod drift;
mod edits;
mod leaders;
mod lost;
mod main_job;
mod parties;
mod rest;
mod schema;
