//! What the task runner behind the cargo aliases does, one module for each task.

pub mod mlx;
pub mod python;
mod wheel;
