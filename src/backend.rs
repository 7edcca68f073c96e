//! What a device offers: it loads a graph and runs the graph's programs.

use std::future::Future;
use std::pin::Pin;

use crate::error::{Error, Result};
use crate::graph::{Element, Graph, Program, Tensor};
use crate::profile::Profile;

/// A future that borrows for `'a`; it need not be `Send`, so that a browser can run it.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A device that models run on.
pub trait Backend {
    /// Name for people: the adapter, or what computes.
    fn name(&self) -> String;

    /// Allocates every tensor of a graph (zeros) and decides how every operation of its programs is run.
    ///
    /// # Errors
    /// [`Error::Gpu`] where memory or the driver fails, and whatever an operation refuses.
    fn load<'a>(&'a self, graph: &'a Graph) -> LocalFuture<'a, Result<Box<dyn Session + 'a>>>;
}

/// A loaded graph: tensors in memory, programs ready to run.
pub trait Session {
    /// Replaces a tensor's values.
    ///
    /// # Errors
    /// [`Error::Shape`] where the number of values differs.
    fn write(&mut self, tensor: Tensor, values: &[f32]) -> Result<()>;

    /// Replaces the values of a tensor of indices.
    ///
    /// # Errors
    /// [`Error::Shape`] where the number of values differs, [`Error::Unsupported`] where the CPU cannot keep an index: above 2^24.
    fn write_indices(&mut self, tensor: Tensor, values: &[u32]) -> Result<()>;

    /// Reads a tensor's values back, row-major; indices as numbers, exact up to 2^24.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails.
    fn read(&self, tensor: Tensor) -> LocalFuture<'_, Result<Vec<f32>>>;

    /// Runs a program `times` times. A GPU has then been given the work and may not have done it: [`Session::read`] waits for it.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the driver fails.
    fn run(&mut self, program: Program, times: usize) -> Result<()>;

    /// Waits until everything that was given to the device is done.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails.
    fn wait(&self) -> LocalFuture<'_, Result<()>>;

    /// Runs a program once, as [`Session::run`] does, and says what took how long.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the driver fails.
    fn profile(&mut self, program: Program) -> LocalFuture<'_, Result<Profile>>;
}

/// Checks how many values a tensor is given.
///
/// # Errors
/// [`Error::Shape`] where it is not as many as the tensor has.
pub(crate) fn check_len(graph_label: &str, shape: &[usize], got: usize) -> Result<()> {
    let want: usize = shape.iter().product();
    if got == want { Ok(()) } else { Err(Error::shape("write", graph_label, format!("{want} values for {shape:?}"), &[got])) }
}

/// Checks that a tensor holds what it is given.
///
/// # Errors
/// [`Error::Unsupported`] where it holds indices and is given numbers, or the other way round.
pub(crate) fn check_element(graph: &Graph, tensor: Tensor, element: Element) -> Result<()> {
    let spec = graph.spec(tensor);
    let what = match graph.storages()[spec.storage].element {
        held if held == element => return Ok(()),
        Element::U32 => message!("`{}` holds indices: use write_indices", spec.label),
        Element::F32 => message!("`{}` holds numbers: use write", spec.label),
    };
    Err(Error::Unsupported { operation: "write", what })
}

/// Writes the values of all parameters, in the order of [`Graph::parameters`].
///
/// # Errors
/// [`Error::Shape`] where there are more or fewer of them, or one has another number of values.
pub(crate) fn write_parameters(session: &mut dyn Session, graph: &Graph, parameters: &[Vec<f32>]) -> Result<()> {
    graph.expect_parameters("forecast", parameters)?;
    graph.parameters().iter().zip(parameters).try_for_each(|(parameter, values)| session.write(parameter.tensor, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::reference::Reference;

    #[test]
    fn numbers_are_no_indices() {
        let mut graph = Graph::new();
        let (numbers, indices) = (graph.input("numbers", &[1]), graph.indices("indices", &[1]));
        for backend in [&Cpu as &dyn Backend, &Reference::<f64>::new()] {
            let mut session = pollster::block_on(backend.load(&graph)).expect("loaded");
            assert!(session.write(indices, &[1.0]).expect_err("refused").to_string().contains("write_indices"));
            assert!(session.write_indices(numbers, &[1]).expect_err("refused").to_string().contains("use write"));
            session.write(numbers, &[1.0]).and_then(|()| session.write_indices(indices, &[1])).expect("written");
        }
    }
}
