//! What the task runner behind the cargo aliases does, one module for each task.

pub mod bench;
pub mod build;
pub mod ci;
pub mod fuzz;
pub mod mlx;
pub mod node;
pub mod python;
pub mod up;
pub(crate) mod wheel;
