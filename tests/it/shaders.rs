//! Every shader in every variant that a model can ask for: naga accepts it and, where it is installed, tint too.

use std::collections::HashSet;
use std::process::Command;

use naga::valid::{Capabilities as Caps, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use receptive::device::{Capabilities, KernelKey, shader_names};
use receptive::exec::dispatches;
use receptive::graph::{Extent, Precision};
use receptive::nn::{Channels, TextCnn, TextCnnConfig, WaveNet, WaveNetConfig, WaveNetInput};
use receptive::ops::table::{FAMILIES, TABLE};
use receptive::optim::{Adadelta, Adagrad, Adam, Method, OptimizerConfig, RmsProp, Sgd};
use receptive::random::Random;

use crate::support::CaseProgram;

/// The kernels of random cases of every operator, of whole training steps with every optimizer, and of generation.
fn kernels() -> HashSet<KernelKey> {
    let floor = Capabilities::floor();
    let f16 = Capabilities { f16: true, ..Capabilities::floor() };
    let storages = [(Precision::F32, &floor), (Precision::F16, &f16), (Precision::F16, &floor)];
    let mut keys = HashSet::new();
    for (index, entry) in TABLE.iter().enumerate() {
        for (number, (precision, capabilities)) in (0..60).flat_map(|number| storages.map(|storage| (number, storage)))
        {
            let mut random = Random::new(3, index as u32, number);
            let case = CaseProgram::with(&(entry.case)(&mut random), &mut random, false, precision);
            keys.extend(dispatches(&case.program, capabilities).unwrap().into_iter().map(|d| d.kernel));
        }
    }
    for (family, variant) in FAMILIES.iter().flat_map(|f| (f.variants)().into_iter().map(|name| (f.name, name))) {
        for (precision, capabilities) in storages {
            // The subgroups that kernels are written for.
            let capabilities = Capabilities { subgroup_width: Some(8), ..capabilities.clone() };
            let capabilities = capabilities.forcing(family, variant);
            for (index, entry) in TABLE.iter().enumerate() {
                for number in 0..20 {
                    let mut random = Random::new(4, index as u32, number);
                    let case = CaseProgram::with(&(entry.case)(&mut random), &mut random, false, precision);
                    // What the variant does not admit is no case of it.
                    keys.extend(dispatches(&case.program, &capabilities).into_iter().flatten().map(|d| d.kernel));
                }
            }
        }
    }
    for config in configurations() {
        let model = WaveNet::new(config).unwrap();
        for capabilities in generators() {
            keys.extend(receptive::generate::kernel(&model, 1, &capabilities).unwrap());
        }
        for (precision, capabilities) in storages {
            let model = model.clone().with_precision(precision);
            for optimizer in optimizers() {
                let extent = Extent { batch: 4, time: model.receptive_field() + 4096 };
                let step = model.training(extent, &optimizer).unwrap();
                keys.extend(dispatches(&step.program, capabilities).unwrap().into_iter().map(|d| d.kernel));
            }
        }
    }
    // Weights that are held to a norm, and a table with a sparse gradient.
    let sentences = TextCnn::new(TextCnnConfig::kim(20, 2, Channels::Multichannel)).unwrap();
    for (precision, capabilities) in storages {
        let model = sentences.clone().with_precision(precision);
        for optimizer in optimizers() {
            let step = model.training(Extent { batch: 2, time: 6 }, &optimizer).unwrap();
            keys.extend(dispatches(&step.program, capabilities).unwrap().into_iter().map(|d| d.kernel));
        }
    }
    without_sizes(keys)
}

/// One of the kernels that differ in nothing but sizes of the model, which change no declaration.
fn without_sizes(keys: HashSet<KernelKey>) -> HashSet<KernelKey> {
    let sizes = ["TAPS", "SRC4", "RESIDUAL4", "MULTIPLY", "DIVIDE", "ACTIVATION"];
    let mut seen = HashSet::new();
    let mut keys: Vec<KernelKey> = keys.into_iter().collect();
    keys.sort_by_key(KernelKey::to_string);
    keys.retain(|key| {
        let mut reduced = key.clone();
        reduced.constants.retain(|(name, _)| !sizes.contains(name));
        seen.insert(reduced)
    });
    keys.into_iter().collect()
}

/// Devices for which the generator chooses another number of threads.
fn generators() -> [Capabilities; 3] {
    let mut many_threads = Capabilities::floor();
    many_threads.max_invocations = 1024;
    let mut software = Capabilities::floor();
    software.software = true;
    [Capabilities::floor(), many_threads, software]
}

fn configurations() -> Vec<WaveNetConfig> {
    let mut configurations: Vec<WaveNetConfig> =
        WaveNetConfig::PRESETS.iter().map(|name| WaveNetConfig::preset(name).unwrap()).collect();
    let tiny = WaveNetConfig::tiny();
    configurations.push(WaveNetConfig { input: WaveNetInput::Scalar, kernel: 3, biases: false, ..tiny.clone() });
    configurations.push(WaveNetConfig { residual: 5, gate: 7, skip: 9, head: 6, input_bias: false, ..tiny });
    configurations
}

fn optimizers() -> Vec<OptimizerConfig> {
    let sgd = |momentum, nesterov| Method::Sgd(Sgd { momentum, nesterov, weight_decay: 0.01 });
    let rmsprop = |momentum, centered| Method::RmsProp(RmsProp { momentum, centered, ..RmsProp::default() });
    let methods = [
        Method::Adam(Adam::default()),
        Method::Sgd(Sgd::default()),
        sgd(0.0, false),
        sgd(0.9, false),
        sgd(0.9, true),
        rmsprop(0.0, false),
        rmsprop(0.9, false),
        rmsprop(0.0, true),
        rmsprop(0.9, true),
        Method::Adagrad(Adagrad::default()),
        Method::Adadelta(Adadelta::default()),
    ];
    let plain_and_not = |method: Method| {
        let with_all = OptimizerConfig { clip_norm: Some(1.0), average: Some(0.9), ..method.into() };
        [method.into(), with_all]
    };
    methods.into_iter().flat_map(plain_and_not).collect()
}

#[test]
fn naga_accepts_every_variant() {
    let keys = kernels();
    let covered: HashSet<&str> = keys.iter().map(|key| key.shader).collect();
    // Kernels on cooperative matrices are checked in every configuration beside their operators.
    for name in shader_names().filter(|name| !name.ends_with("_coop")) {
        assert!(covered.contains(name), "no case reaches the shader {name}");
    }
    for key in &keys {
        let source = key.wgsl().unwrap();
        let module =
            naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{key}: {}", e.emit_to_string(&source)));
        // No optional capability beside the one asked for: the floor of WebGPU, which has the packing of f16.
        let half = key.defines.contains(&"HALF");
        let capabilities = if half { Caps::SHADER_FLOAT16 } else { Caps::SHADER_FLOAT16_IN_FLOAT32 };
        let capabilities =
            if key.defines.contains(&"SUBGROUPS") { capabilities | Caps::SUBGROUP } else { capabilities };
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
        let information =
            validator.validate(&module).unwrap_or_else(|e| panic!("{key}: {}", e.emit_to_string(&source)));
        let constants = key.constants.iter().map(|&(name, value)| (name.to_owned(), f64::from(value))).collect();
        let (module, information) =
            naga::back::pipeline_constants::process_overrides(&module, &information, None, &constants)
                .unwrap_or_else(|e| panic!("{key}: {e}"));
        let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
        naga::back::spv::write_vec(&module, &information, &options, None).unwrap_or_else(|e| panic!("{key}: {e}"));
        assert!(key.access.len() <= 8, "{key}: more than 8 storage buffers");
    }
}

#[test]
fn tint_accepts_every_portable_variant() {
    if Command::new("tint").arg("--help").output().is_err() {
        eprintln!("tint is not installed: nothing was checked");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (index, key) in kernels().iter().enumerate() {
        let file = folder.path().join(format!("{index}.wgsl"));
        // naga knows subgroups without being told and does not know the directive.
        let enable = if key.defines.contains(&"SUBGROUPS") { "enable subgroups;\n" } else { "" };
        std::fs::write(&file, format!("{enable}{}", key.wgsl().unwrap())).unwrap();
        let overrides: Vec<String> = key.constants.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut command = Command::new("tint");
        command.args(["--format", "wgsl", "--output-name", "/dev/null"]);
        if !overrides.is_empty() {
            command.args(["--overrides", &overrides.join(",")]);
        }
        let output = command.arg(&file).output().unwrap();
        assert!(output.status.success(), "{key}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
