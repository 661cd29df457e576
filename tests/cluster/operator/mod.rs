//! The operator's behaviour on a real API server.

mod apiserver;
mod canary;
mod conflict;
mod consumers;
mod crash;
mod delivery;
mod devices;
mod drift;
mod edits;
mod gitops;
mod given;
mod leaders;
mod lost;
mod main_job;
mod odd;
mod parties;
mod policy;
mod rest;
mod retain;
mod rotation;
mod schema;
mod schemes;
mod secrets;
mod unused;
mod users;
mod validity;
