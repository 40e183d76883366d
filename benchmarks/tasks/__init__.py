"""Does balancing help? Multi-task suites from packages alone, all solvers, tuned alike.

Δm is the mean over the metrics of how many percent of single-task training's a metric is better
(negative: worse; Maninis et al. 2019), "worst" the metric that lost most. Mean ± standard deviation
over the seeds, which draw weights and batches; the split is fixed. The mean rank of a suite is over
its metrics, of the means; that over the suites is of Δm.

Adam, 64 samples a step, a learning rate that falls to zero as a cosine. Every method has the same
budget: each rate of a grid from every seed, of which the best by the mean Δm on a validation part
is kept. Single-task models choose task by task. Static weights are chosen from a small grid on top;
"runs" counts what the choice was made from. Solvers on gradients are at `scale="norm"` unless their
name says another, as in "MGDA @ none", over all shared parameters, heads as the library has them by
default; solvers on losses are as published. An "epoch", for `DWA`, is a tenth of a run.

"step / plain" is the CPU time of a step over that of the plain sum's in the same process (for
`FAMO` with its second forward pass). Every head tells numbers in standard deviations from the
mean, so that raw and standardised suites differ in the losses' units only, which static weights
could make up for.
"""
