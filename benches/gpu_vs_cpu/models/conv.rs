//! A convolution alone, in one of its three directions, over an input that is padded already.

use std::sync::Arc;

use anyhow::{Result, bail};
use receptive::graph::{Extent, Graph, Init, Precision, Shape};
use receptive::ops::{self, Activation, Geometry};

use super::super::workloads::Case;
use super::{Input, Model, reals};

/// The direction that the workload's name says.
pub fn alone(case: &Case) -> Result<Model> {
    let [c_in, c_out, taps, dilation] =
        ["in_channels", "out_channels", "kernel", "dilation"].map(|key| case.size.count(key));
    let (c_in, c_out, taps, dilation) = (c_in?, c_out?, taps?, dilation?);
    let geometry = Geometry::valid(taps, dilation);
    let weight_shape = Shape::new(taps, c_in, c_out);
    let init = Init::xavier(taps * c_in, taps * c_out);

    let extent = Extent { batch: case.size.count("batch")?, time: case.size.count("time")? };
    let mut graph = Graph::new(extent)?.with_precision(case.precision);
    let x = graph.input("x", geometry.reach() as isize, c_in)?;
    let dy = graph.input("dy", 0, c_out)?;
    // The inputs that the direction reads; the others take no memory but that of `x` for its shape.
    let (name, result, read) = if case.workload.starts_with("conv_forward") {
        let weight = graph.param("weight", weight_shape, init, true)?;
        let bias = graph.param("bias", Shape::vector(c_out), Init::Uniform { bound: 1.0 }, false)?;
        ("y", ops::conv1d(&mut graph, x, weight, Some(bias), geometry, Activation::Identity)?, vec![x])
    } else if case.workload.starts_with("conv_grad_input") {
        let weight = graph.param("weight", weight_shape, init, true)?;
        ("dx", ops::conv1d_grad_input(&mut graph, dy, weight, x, geometry)?, vec![dy])
    } else if case.workload.starts_with("conv_grad_weight") {
        ("dw", ops::conv1d_grad_weight(&mut graph, x, dy, weight_shape, geometry)?, vec![x, dy])
    } else {
        bail!("the name of a convolution begins with conv_forward, conv_grad_input or conv_grad_weight");
    };
    let program = Arc::new(graph.finish(&[result], &[])?);
    let inputs = read.into_iter().enumerate().map(|(stream, tensor)| {
        let elements = program.shape(tensor).len();
        Input { tensor, batches: reals(stream as u32, elements) }
    });
    Ok(Model {
        inputs: inputs.collect(),
        checked: vec![(name.into(), result)],
        learning_rate: None,
        parameters: weight_shape.len() + c_out,
        leaves_out: false,
        program,
    })
}

/// A matrix product of `rows` rows, as a convolution of one tap: what the library's GEMM can do.
pub fn product(rows: usize, c_in: usize, c_out: usize, precision: Precision) -> Result<Model> {
    let mut graph = Graph::new(Extent { batch: 1, time: rows })?.with_precision(precision);
    let x = graph.input("x", 0, c_in)?;
    let weight = graph.param("weight", Shape::new(1, c_in, c_out), Init::xavier(c_in, c_out), true)?;
    let y = ops::conv1d(&mut graph, x, weight, None, Geometry::pointwise(), Activation::Identity)?;
    let program = Arc::new(graph.finish(&[y], &[])?);
    Ok(Model {
        inputs: vec![Input { tensor: x, batches: reals(0, rows * c_in) }],
        checked: vec![("y".into(), y)],
        learning_rate: None,
        parameters: c_in * c_out,
        leaves_out: false,
        program,
    })
}
