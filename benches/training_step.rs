//! Throughput of one training step of each model, the loss on the last step or on every step, on every device.

mod common;

use scanrnn::benchmark::{LossOn, Shape, training_step};
use scanrnn::model::ModelKind;
use scanrnn::reference::Reference;

fn main() {
    let mut criterion = common::criterion();
    let devices: Vec<_> = std::iter::once(common::reference()).chain(common::devices(false)).collect();
    for model in ModelKind::LINEAR {
        for (batch, length) in [(32, 32), (32, 256), (8, 2048)] {
            for (loss, loss_on) in [("the last step", LossOn::LastStep), ("every step", LossOn::EveryStep)] {
                let shape = Shape { batch, length, channels: 128, state: 16 };
                let mut measured = training_step(model, shape, loss_on).expect("the shape fits");
                measured.graph.share_storages(&measured.results);
                let name = format!("{model} {batch} x {length}, loss on {loss}");
                common::group(&mut criterion, &devices, &Reference::<f64>::new(), &name, batch * length, &measured);
            }
        }
    }
    criterion.final_summary();
}
