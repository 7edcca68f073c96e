//! How much memory a training takes: tensors share it where none is needed at another's time.

use scanrnn::backend::Backend;
use scanrnn::benchmark::{LossOn, Shape, results, training_step};
use scanrnn::cpu::Cpu;
use scanrnn::model::{ForecasterConfig, ModelKind};
use scanrnn::reference::Reference;
use scanrnn::train::{Series, Trainer, TrainingConfig};

#[test]
fn sharing_memory_changes_no_bit() {
    for model in ModelKind::ALL {
        for loss_on in [LossOn::LastStep, LossOn::EveryStep] {
            let shape = Shape { batch: 3, length: 37, channels: 8, state: 4 };
            let apart = training_step(model, shape, loss_on).expect("fits");
            let mut shared = training_step(model, shape, loss_on).expect("fits");
            shared.graph.share_storages(&shared.results);
            assert!(shared.graph.bytes() < apart.graph.bytes(), "{model}: {} and {} bytes", shared.graph.bytes(), apart.graph.bytes());
            for backend in [&Cpu as &dyn Backend, &Reference::<f32>::new()] {
                let [shared, apart] = [&shared, &apart].map(|step| pollster::block_on(results(step, backend)).expect("runs"));
                assert!(
                    shared == apart && shared.iter().flatten().all(|value| value.is_finite()),
                    "{model}, {loss_on:?}, {}",
                    backend.name()
                );
            }
        }
    }
}

#[test]
fn a_million_steps_fit_four_gibibytes() {
    const WINDOW: usize = 1 << 20;
    let values = vec![0.0; WINDOW + 4];
    let series = Series::new(&values, 0..2, 2..3);
    for (model, hidden) in [(ModelKind::MinGru, 64), (ModelKind::MinGruScan, 128), (ModelKind::MambaLab, 64), (ModelKind::Mamba, 32)] {
        let config = TrainingConfig { window: WINDOW, batch: 1, ..TrainingConfig::lab(model) };
        let trainer = Trainer::new(&ForecasterConfig::new(model, hidden), &config, &series).expect("fits");
        let gib = trainer.graph().bytes() as f64 / (1u64 << 30) as f64;
        assert!(gib < 4.0, "{model} of {hidden} channels plans {gib:.2} GiB");
    }
}
