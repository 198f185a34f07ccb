//! The device layer on a GPU: errors are typed, kernels are kept, bytes go there and back, random numbers are the CPU's.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use receptive::device::{Access, Capabilities, Gpu, KernelKey, PARAMETER_BYTES, Tier};
use receptive::random::{Random, philox, unit_f32};
use receptive::{Device, Error, Result, wgpu};
use wgpu::BufferUsages;

use crate::support;

fn gpu() -> Arc<Gpu> {
    gpu_of(&support::gpu())
}

fn gpu_of(device: &Device) -> Arc<Gpu> {
    Arc::clone(device.as_gpu().expect("the tests of the device need a GPU or a software adapter"))
}

/// A device of a test's own, for tests that break it.
fn own_gpu() -> Arc<Gpu> {
    let name = gpu().info().name.clone();
    gpu_of(&Device::select(&name).unwrap())
}

fn key(entry: &'static str, access: &[Access]) -> KernelKey {
    KernelKey { shader: "test", entry, defines: Vec::new(), constants: Vec::new(), access: access.to_vec() }
}

/// Runs a kernel with zero parameters on buffers with the given contents; the contents of the last one afterwards.
fn dispatch(gpu: &Gpu, key: &KernelKey, source: &str, contents: &[&[u32]], workgroups: u32) -> Result<Vec<u32>> {
    let kernel = gpu.kernel_from_wgsl(key, source)?;
    let parameters = gpu.buffer("parameters", PARAMETER_BYTES, BufferUsages::UNIFORM)?;
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let mut buffers = vec![parameters];
    for words in contents {
        let buffer = gpu.buffer("words", 4 * words.len() as u64, usage)?;
        gpu.write(&buffer, 0, &words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())?;
        buffers.push(buffer);
    }
    let entries: Vec<_> = (0..)
        .zip(&buffers)
        .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    let index = gpu.scoped("test dispatch", || {
        let group = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&kernel.label),
            layout: &kernel.layout,
            entries: &entries,
        });
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&kernel.pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(workgroups, 1, 1);
        drop(pass);
        gpu.queue().submit([encoder.finish()])
    })?;
    gpu.wait(index, "test dispatch")?;
    let last = contents.last().expect("a kernel with an output");
    let bytes = gpu.read(&buffers[contents.len()], 0, 4 * last.len() as u64)?;
    Ok(bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect())
}

/// Runs one of the ignored tests below in a process of its own, with environment variables.
fn child(test: &str, variables: &[(&str, &str)]) -> Output {
    let name = gpu().info().name.clone();
    let test = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--ignored", "--nocapture"])
        .env("RECEPTIVE_DEVICE", name)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[track_caller]
fn assert_passed(output: &Output) {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{error}");
}

#[test]
fn a_device_is_found_by_its_name_and_printed() {
    let gpu = gpu();
    let info = gpu.info();
    let part = info.name.split_whitespace().next().unwrap().to_uppercase();
    let device = Device::select(&part).unwrap();
    assert_eq!(gpu_of(&device).info().name, info.name);
    let line = device.to_string();
    assert!(line.contains(&info.name) && line.contains("tier") && !line.contains('\n'), "{line}");
    assert!(line.contains(&info.driver) && line.contains(&info.driver_info), "{line}");
    assert_eq!(gpu.capabilities().software, info.device_type == wgpu::DeviceType::Cpu);
    assert!(Device::adapters().iter().any(|adapter| adapter.name == info.name));
}

#[test]
fn every_adapter_is_opened() {
    let all = Device::open_all().unwrap();
    let summaries: Vec<_> = all.iter().map(|(summary, _)| summary.clone()).collect();
    assert_eq!(summaries, Device::adapters());
    let opened = |(summary, device): &(_, Result<Device>)| {
        let summary: &receptive::device::AdapterSummary = summary;
        device.as_ref().is_ok_and(|device| gpu_of(device).info().name == summary.name)
    };
    assert!(all.iter().any(opened), "{all:?}");
}

#[test]
fn software_is_taken_only_when_asked_for() {
    let real = Device::adapters().iter().any(|adapter| adapter.kind != wgpu::DeviceType::Cpu);
    let device = Device::gpu();
    assert_eq!(device.is_ok(), real, "{device:?}");
    if let Err(error) = device {
        assert!(matches!(&error, Error::NoDevice { asked, .. } if asked == "gpu"), "{error}");
    }
    assert_passed(&child("child_takes_no_software", &[("RECEPTIVE_DEVICE", "auto")]));
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn child_takes_no_software() {
    let device = Device::select("auto").unwrap();
    assert!(device.as_gpu().is_none_or(|gpu| !gpu.capabilities().software), "{device}");
}

#[test]
fn the_environment_chooses_for_auto_only() {
    assert_passed(&child("child_asks_the_environment", &[("RECEPTIVE_DEVICE", "cpu")]));
    assert_passed(&child("child_finds_nothing", &[("RECEPTIVE_DEVICE", "no such adapter")]));
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn child_asks_the_environment() {
    assert!(matches!(Device::auto(), Ok(Device::Cpu)));
    assert!(matches!(Device::select("auto"), Ok(Device::Cpu)));
    assert!(matches!(Device::select("vulkan"), Ok(Device::Gpu(_)) | Err(Error::NoDevice { .. })));
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn child_finds_nothing() {
    assert!(matches!(Device::auto(), Err(Error::NoDevice { asked, .. }) if asked == "no such adapter"));
}

#[test]
fn a_tier_caps_features_and_limits() {
    for tier in Tier::ALL {
        assert_passed(&child("child_is_capped", &[("RECEPTIVE_TIER", tier.name())]));
    }
    assert_passed(&child("child_is_misconfigured", &[("RECEPTIVE_TIER", "fast")]));
    assert_passed(&child("child_is_misconfigured", &[("RECEPTIVE_TIMEOUT", "0")]));
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn child_is_capped() {
    let cap: Tier = std::env::var("RECEPTIVE_TIER").unwrap().parse().unwrap();
    let gpu = gpu_of(&Device::auto().unwrap());
    let capabilities = gpu.capabilities();
    assert!(capabilities.tier <= cap, "{capabilities}");
    let features = gpu.device().features();
    assert_eq!(features.contains(wgpu::Features::SHADER_F16), capabilities.f16);
    if cap == Tier::Floor {
        let Capabilities { timestamps, software, .. } = *capabilities;
        assert_eq!(*capabilities, Capabilities { timestamps, software, ..Capabilities::floor() });
        let limits = gpu.device().limits();
        assert_eq!(limits.max_storage_buffers_per_shader_stage, 8);
        assert_eq!(limits.max_compute_invocations_per_workgroup, 256);
    }
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn child_is_misconfigured() {
    let error = Device::auto().unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    let message = error.to_string();
    assert!(message.contains("RECEPTIVE_TIER=\"fast\"") || message.contains("RECEPTIVE_TIMEOUT=\"0\""), "{message}");
}

const COPY: &str = "
override factor: u32 = 1u;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(1) fn main(@builtin(workgroup_id) id: vec3<u32>) {
#ifdef TWICE
    y[id.x] = 2u * factor * x[id.x];
#else
    y[id.x] = factor * x[id.x];
#endif
}";

#[test]
fn constants_and_defines_reach_the_kernel() {
    let gpu = gpu();
    let mut key = key("main", &[Access::Read, Access::ReadWrite]);
    assert_eq!(dispatch(&gpu, &key, COPY, &[&[1, 2, 3], &[9; 3]], 3).unwrap(), [1, 2, 3]);
    key.constants = vec![("factor", 5)];
    assert_eq!(dispatch(&gpu, &key, COPY, &[&[1, 2, 3], &[9; 3]], 3).unwrap(), [5, 10, 15]);
    key.defines = vec!["TWICE"];
    assert_eq!(dispatch(&gpu, &key, COPY, &[&[1, 2, 3], &[9; 3]], 2).unwrap(), [10, 20, 9]);
}

#[test]
fn a_broken_kernel_is_a_typed_error() {
    let gpu = gpu();
    let access = [Access::Read, Access::ReadWrite];
    let unknown_constant = KernelKey { constants: vec![("facto", 2)], ..key("main", &access) };
    let cases = [
        (key("main", &access), COPY.replace("factor * x", "factor * z"), "z"),
        (key("main", &access), COPY.replace("= 1u;", "= 1.5;"), "override"),
        (key("mian", &access), COPY.to_owned(), "mian"),
        (unknown_constant, COPY.to_owned(), "facto"),
        (key("main", &[Access::Read, Access::Read]), COPY.to_owned(), "binding"),
        (key("main", &access), COPY.replace("#endif", ""), "without #endif"),
        (key("main", &[Access::Read; 9]), COPY.to_owned(), "at most 8"),
    ];
    for (key, source, word) in cases {
        let error = gpu.kernel_from_wgsl(&key, &source).unwrap_err();
        assert!(matches!(&error, Error::Shader { shader, .. } if shader == "test"), "{error}");
        let message = error.to_string();
        assert!(message.contains(word) && message.contains(key.entry), "\"{word}\" is not in: {message}");
    }
    gpu.check().unwrap();
}

#[test]
fn kernels_are_compiled_once() {
    let gpu = own_gpu();
    let key = KernelKey { shader: "constant", ..key("main", &[Access::ReadWrite]) };
    let kernels = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| kernels.lock().unwrap().push(gpu.kernel(&key).unwrap()));
        }
    });
    let kernels = kernels.into_inner().unwrap();
    assert!(kernels.iter().all(|kernel| Arc::ptr_eq(kernel, &kernels[0])));
    assert_eq!((gpu.pipelines_created(), kernels[0].label.as_str()), (1, "constant/main"));

    let broken = KernelKey { entry: "no_such_entry_point", ..key.clone() };
    for _ in 0..2 {
        assert!(matches!(gpu.kernel(&broken), Err(Error::Shader { .. })));
    }
    assert_eq!(gpu.pipelines_created(), 1, "a failure is not a pipeline");
    gpu.kernel(&KernelKey { defines: vec!["OTHER"], ..key }).unwrap();
    assert_eq!(gpu.pipelines_created(), 2);
}

#[test]
fn bytes_come_back_as_written() {
    let gpu = gpu();
    let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let buffer = gpu.buffer("bytes", 1000, usage).unwrap();
    assert_eq!(buffer.size(), 1024);
    let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
    gpu.write(&buffer, 8, &bytes[..992]).unwrap();
    for (offset, length) in [(8, 992), (9, 1), (11, 6), (12, 0), (999, 25)] {
        let expected: Vec<u8> = (offset..offset + length).map(|at| if at < 1000 { bytes[at - 8] } else { 0 }).collect();
        assert_eq!(gpu.read(&buffer, offset as u64, length as u64).unwrap(), expected, "{length} at {offset}");
    }
}

/// Where several threads wait, one of them gets the callbacks of all.
#[test]
fn many_threads_read_at_once() {
    let gpu = gpu();
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let gpu = &gpu;
            scope.spawn(move || {
                let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
                let buffer = gpu.buffer("bytes", 256, usage).unwrap();
                for round in 0..100 {
                    gpu.write(&buffer, 0, &[thread ^ round; 256]).unwrap();
                    assert_eq!(gpu.read(&buffer, 0, 256).unwrap(), [thread ^ round; 256]);
                }
            });
        }
    });
}

/// More than one staging buffer's worth, in both directions.
#[test]
fn long_transfers_go_in_pieces() {
    let gpu = gpu();
    let words: Vec<u8> = (0..(65 << 20) / 4u32).flat_map(u32::to_le_bytes).collect();
    let buffer = gpu.buffer("long", words.len() as u64, BufferUsages::COPY_SRC | BufferUsages::COPY_DST).unwrap();
    gpu.write(&buffer, 0, &words).unwrap();
    let back = gpu.read(&buffer, 4, words.len() as u64 - 5).unwrap();
    assert!(back == words[4..words.len() - 1], "the bytes differ");
}

#[test]
fn transfers_outside_a_buffer_are_errors() {
    let gpu = gpu();
    let both = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let buffer = gpu.buffer("small", 256, both).unwrap();
    let closed = gpu.buffer("closed", 256, BufferUsages::STORAGE).unwrap();
    let errors = [
        gpu.read(&buffer, 0, 257).unwrap_err(),
        gpu.read(&buffer, u64::MAX, 2).unwrap_err(),
        gpu.write(&buffer, 256, &[0; 4]).unwrap_err(),
        gpu.write(&buffer, 0, &[0; 3]).unwrap_err(),
        gpu.write(&closed, 0, &[0; 4]).unwrap_err(),
        gpu.read(&closed, 0, 4).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, Error::Device { adapter, .. } if adapter == gpu.name()), "{error}");
    }
    assert_eq!(gpu.read(&buffer, 0, 4).unwrap(), [0; 4], "the device still works");
}

#[test]
fn a_buffer_too_large_is_refused_before_the_driver_sees_it() {
    let gpu = gpu();
    let limit = gpu.capabilities().max_buffer_bytes;
    for bytes in [limit + 1, u64::MAX] {
        let error = gpu.buffer("huge", bytes, BufferUsages::STORAGE).unwrap_err();
        assert!(matches!(error, Error::TooLarge { bytes: asked, limit: most, .. } if asked == bytes && most == limit));
        assert!(error.to_string().contains("\"huge\""), "{error}");
    }
}

#[test]
fn every_buffer_is_counted() {
    let gpu = own_gpu();
    let _small = gpu.buffer("small", 1, BufferUsages::STORAGE).unwrap();
    let _larger = gpu.buffer("larger", 257, BufferUsages::STORAGE).unwrap();
    assert!(gpu.buffer("refused", u64::MAX, BufferUsages::STORAGE).is_err());
    assert_eq!((gpu.buffers_created(), gpu.bytes_created()), (2, 256 + 512));
}

#[test]
fn an_error_outside_any_scope_is_kept_for_the_next_check() {
    let gpu = own_gpu();
    let buffer = gpu.buffer("storage", 256, BufferUsages::STORAGE).unwrap();
    gpu.queue().write_buffer(&buffer, 0, &[0; 4]);
    let error = gpu.check().unwrap_err();
    assert!(matches!(&error, Error::Device { message, .. } if message.contains("COPY_DST")), "{error}");
    gpu.check().unwrap();
}

#[test]
fn a_lost_device_stays_lost() {
    let gpu = own_gpu();
    let buffer = gpu.buffer("before", 256, BufferUsages::COPY_SRC | BufferUsages::COPY_DST).unwrap();
    gpu.device().destroy();
    // wgpu reports the loss at the next poll, through the callback.
    let _ = gpu.poll();
    let access = [Access::Read, Access::ReadWrite];
    let errors = [
        gpu.check().unwrap_err(),
        gpu.check().unwrap_err(),
        gpu.poll().unwrap_err(),
        gpu.wait_idle("nothing").unwrap_err(),
        gpu.buffer("after", 256, BufferUsages::STORAGE).unwrap_err(),
        gpu.read(&buffer, 0, 4).unwrap_err(),
        gpu.write(&buffer, 0, &[0; 4]).unwrap_err(),
        gpu.kernel_from_wgsl(&key("main", &access), COPY).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, Error::DeviceLost { adapter, .. } if adapter == gpu.name()), "{error}");
    }
}

#[test]
fn a_wait_ends() {
    assert_passed(&child("child_waits_too_long", &[("RECEPTIVE_TIMEOUT", "1")]));
}

/// A kernel that runs for some seconds on a software adapter. On real GPUs, where a watchdog might end it, it is shorter
/// than the wait, which then must succeed.
#[test]
#[ignore = "run by another test in a process of its own"]
fn child_waits_too_long() {
    let gpu = gpu_of(&Device::auto().unwrap());
    let software = gpu.capabilities().software;
    let source = "
        override rounds: u32;
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            var x = y[0] + id.x;
            for (var i = 0u; i < rounds; i++) { x = x * 1664525u + 1013904223u + (x >> 7u); }
            y[id.x % 64u] = x;
        }";
    let rounds = if software { 1 << 26 } else { 1 << 10 };
    let key = KernelKey { constants: vec![("rounds", rounds)], ..key("main", &[Access::ReadWrite]) };
    match dispatch(&gpu, &key, source, &[&[1; 64]], 64) {
        Err(Error::Timeout { seconds, what, .. }) if software => assert_eq!((seconds, &*what), (1, "test dispatch")),
        Ok(_) if !software => {}
        other => panic!("{other:?}"),
    }
    // Leave at once: the adapter is still busy, and closing the device would wait for it.
    println!("test result: ok. 1 passed");
    std::process::exit(0);
}

#[test]
fn an_application_keeps_its_own_handlers() {
    let (device, queue) = support::application();
    let seen = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&seen);
    device.on_uncaptured_error(Arc::new(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let gpu = gpu_of(&Device::from_wgpu(device.clone(), queue).unwrap());
    assert_eq!(gpu.capabilities().tier, Tier::Floor);
    assert_eq!(gpu.capabilities().max_buffer_bytes, 256 << 20);

    let key = key("main", &[Access::Read, Access::ReadWrite]);
    assert_eq!(dispatch(&gpu, &key, COPY, &[&[7, 8], &[0; 2]], 2).unwrap(), [7, 8]);
    assert!(matches!(gpu.kernel_from_wgsl(&key, "fn main("), Err(Error::Shader { .. })));
    let buffer = gpu.buffer("storage", 256, BufferUsages::STORAGE).unwrap();
    assert!(matches!(gpu.write(&buffer, 0, &[0; 4]), Err(Error::Device { .. })));
    assert_eq!(seen.load(Ordering::Relaxed), 0, "the crate's errors are the crate's");

    gpu.queue().write_buffer(&buffer, 0, &[0; 4]);
    assert_eq!(seen.load(Ordering::Relaxed), 1, "the application's errors are the application's");
    gpu.check().unwrap();
}

#[test]
fn the_loss_of_an_applications_device_is_found() {
    let (device, queue) = support::application();
    let gpu = gpu_of(&Device::from_wgpu(device.clone(), queue).unwrap());
    let buffer = gpu.buffer("before", 256, BufferUsages::COPY_SRC).unwrap();
    gpu.check().unwrap();
    device.destroy();
    for result in [gpu.read(&buffer, 0, 4).map(drop), gpu.check(), gpu.wait_idle("nothing")] {
        assert!(matches!(result, Err(Error::DeviceLost { .. })), "{result:?}");
    }
}

#[test]
fn random_bits_are_those_of_the_cpu() {
    let source = "
        #import philox
        @group(0) @binding(1) var<storage, read> blocks: array<array<u32, 6>>;
        @group(0) @binding(2) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let b = blocks[id.x];
            let bits = philox(vec4<u32>(b[0], b[1], b[2], b[3]), vec2<u32>(b[4], b[5]));
            for (var i = 0u; i < 4u; i++) {
                y[8u * id.x + i] = bits[i];
                y[8u * id.x + 4u + i] = bitcast<u32>(unit_f32(bits[i]));
            }
        }";
    let mut random = Random::new(5, 0, 0);
    let mut inputs: Vec<u32> = (0..6 * 1024).map(|_| random.bits()).collect();
    inputs[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, !0, !0, !0, !0, !0, !0]);
    let expected: Vec<u32> = inputs
        .chunks_exact(6)
        .flat_map(|b| {
            let bits = philox([b[0], b[1], b[2], b[3]], [b[4], b[5]]);
            bits.into_iter().chain(bits.map(|bits| unit_f32(bits).to_bits()))
        })
        .collect();
    let key = key("main", &[Access::Read, Access::ReadWrite]);
    let zeros = vec![0; expected.len()];
    assert_eq!(dispatch(&gpu(), &key, source, &[&inputs, &zeros], 16).unwrap(), expected);
}

/// The ends of the range of bits too, where rounding could reach 0 or 1.
#[test]
fn uniform_numbers_are_those_of_the_cpu() {
    let source = "
        #import philox
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            y[id.x] = bitcast<u32>(unit_f32(y[id.x]));
        }";
    let mut random = Random::new(6, 0, 0);
    let mut bits: Vec<u32> = (0..4096).map(|_| random.bits()).collect();
    for (index, end) in
        [0, 1, 255, 256, 511, 512, 1 << 31, !0 - 512, !0 - 511, !0 - 256, !0 - 255, !0].iter().enumerate()
    {
        bits[index] = *end;
    }
    let expected: Vec<u32> = bits.iter().map(|bits| unit_f32(*bits).to_bits()).collect();
    let key = key("main", &[Access::ReadWrite]);
    let out = dispatch(&gpu(), &key, source, &[&bits], 64).unwrap();
    assert_eq!(out, expected);
    for (value, bits) in out.iter().map(|word| f32::from_bits(*word)).zip(bits) {
        assert!(0.0 < value && value < 1.0, "{bits:#x} gives {value}");
    }
}

#[test]
fn activations_are_exact_enough_and_keep_nan() {
    let source = "
        #import activation
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let v = x[id.x];
            y[4u * id.x] = safe_tanh(v);
            y[4u * id.x + 1u] = sigmoid(v);
            y[4u * id.x + 2u] = safe_tanh4(vec4<f32>(0.0, v, 0.0, 0.0)).y;
            y[4u * id.x + 3u] = sigmoid4(vec4<f32>(0.0, 0.0, v, 0.0)).z;
        }";
    let mut inputs = vec![0.0, f32::NAN, 1e30, -1e30, 88.0, -88.0, 100.0, -100.0, 1e-20, -1e-20, 0.173, 0.1735];
    inputs.extend((0..2036).map(|i| (i as f32 - 1018.0) * 0.02));
    let words: Vec<u32> = inputs.iter().map(|x| x.to_bits()).collect();
    let zeros = vec![0; 4 * words.len()];
    let key = key("main", &[Access::Read, Access::ReadWrite]);
    let out = dispatch(&gpu(), &key, source, &[&words, &zeros], 32).unwrap();
    for (x, y) in inputs.iter().zip(out.chunks_exact(4)) {
        let y: Vec<f32> = y.iter().map(|word| f32::from_bits(*word)).collect();
        let exact = [f64::from(*x).tanh(), 1.0 / (1.0 + (-f64::from(*x)).exp())];
        for (index, y) in y.iter().enumerate() {
            let expected = exact[index % 2];
            let error = (f64::from(*y) - expected).abs();
            // Floating point of a GPU is allowed a few units in the last place in exp and in the division.
            let close = error <= 1e-30 + 4e-6 * expected.abs();
            assert!(close || (x.is_nan() && y.is_nan()), "x = {x}: {y} is not {expected}");
        }
    }
}
