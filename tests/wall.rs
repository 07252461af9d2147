//! The wall: what must not pass from tenant B to tenant A, on every surface that exists.
//!
//! [`surfaces`] lists the surfaces, each with its attacks; [`worlds`] makes the two worlds and listens;
//! the tests are rows of THREATS.md, named by their ids.

mod common;

#[path = "wall/builds.rs"]
mod builds;
#[path = "wall/catalog.rs"]
mod catalog;
#[path = "wall/graphs.rs"]
mod graphs;
#[path = "wall/nearest.rs"]
mod nearest;
#[path = "wall/numbered.rs"]
mod numbered;
#[path = "wall/numbered_more.rs"]
mod numbered_more;
#[path = "wall/rows.rs"]
mod rows;
#[path = "wall/sessions.rs"]
mod sessions;
#[path = "wall/shapes.rs"]
mod shapes;
#[path = "wall/surfaces.rs"]
mod surfaces;
#[path = "wall/sweep.rs"]
mod sweep;
#[path = "wall/tables.rs"]
mod tables;
#[path = "wall/users.rs"]
mod users;
#[path = "wall/worlds.rs"]
mod worlds;
