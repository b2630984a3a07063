//! A caller's query: through the gate, planned and executed under limits on one view of the lake, and
//! its answer written.

mod answer;
mod collect;
mod plan_size;
mod row_order;
mod run;
mod statement;

pub use answer::AnswerFacts;
pub use run::run;
pub use statement::checked_frame;

#[cfg(test)]
mod tests;
