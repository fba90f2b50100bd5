"""Tests that are left to the longer proofs for the time that they take, not for what they show.

Whoever adds quick tests beyond the README's ten minutes moves the longest of their kind here; the
other members of each kind stay quick. Names are those that pytest prints.
"""

__all__ = ["LONGER"]

BY_FILE = {
    "parity_tests/test_check_parity_models.py": (
        "test_mistakes_in_whole_models_are_named[padding index]",
    ),
    "parity_tests/test_discrete_mutations.py": (
        "test_swapped_commitment_and_codebook_terms_are_caught",
    ),
    "parity_tests/test_distribution_mutations.py": (
        "test_mutation_is_caught[another sampler of counts]",
        "test_mutation_is_caught[another sampler]",
        "test_mutation_is_caught[draw without a slope]",
        "test_mutation_is_caught[one key for two draws]",
        "test_mutation_is_caught[rounded down]",
        "test_reversed_divergence_is_caught",
    ),
    "parity_tests/test_draws.py": ("test_draws_agree[gamma-float64]",),
    "parity_tests/test_laplace_mutations.py": ("test_mistake_is_caught[old precision dropped]",),
    "parity_tests/test_mutations.py": ("test_other_seed_is_caught[compare0]",),
    "parity_tests/test_optim.py": ("test_follows_torch[radam-float64]",),
    "parity_tests/test_oracles.py": ("test_quantile_gradient_is_that_of_the_implicit_function",),
    "parity_tests/test_parity.py": (
        "test_function[Beta-float64]",
        "test_function[Dirichlet-float64]",
        "test_function[DiscretizedLogisticMixtureHead-float64]",
        "test_function[Gamma quantiles at extremes-float64]",
        "test_function[HalfNormal-float64]",
        "test_function[LowRankMultivariateNormal-float64]",
        "test_function[MixtureSameFamily-float64]",
        "test_function[MultivariateNormalDiag-float64]",
        "test_function[NegativeBinomial from logits-float64]",
        "test_function[Predictive quantiles at extremes-float64]",
        "test_function[Predictive-float64]",
        "test_function[RelaxedBernoulli from probs-float64]",
        "test_function[Renyi bounds and CIWAE-float64]",
        "test_function[SGHMC, cycles, random rows-float64]",
        "test_function[SGLD, falling steps, shuffled-float64]",
        "test_function[SWAG, fewer iterates than columns-float64]",
        "test_function[SWAG-float64]",
        "test_function[StudentT-float64]",
        "test_function[Transformed by Exp-float64]",
        "test_function[VAE of missing values in use-float64]",
        "test_function[Weibull-float64]",
        "test_function[estimators, binary-float64]",
        "test_function[estimators, discrete VAE-float64]",
        "test_function[laplace kron, normal-float64]",
        "test_function[latent classes, EM-float64]",
        "test_function[lstm, 2 layers, both ways, initial, lengths-float64]",
        "test_function[scores-float64]",
        "test_model[discrete VAE, NVIL-float64]",
        "test_model[posterior diagonal-float64]",
        "test_model[variational convolution flipout-float64]",
        "test_model[variational layers full-float64]",
    ),
    "parity_tests/test_point_estimate_mutations.py": (
        "test_exploration_one_step_longer_is_caught",
        "test_wrong_chain_is_caught[friction .11 for .1]",
        "test_wrong_chain_is_caught[noise of the other convention]",
    ),
    "parity_tests/test_random_samplers.py": (
        "TestCounts::test_binomial_of_mixed_parameters[float64]",
        "TestRejection::test_gamma[gamma-float32]",
        "TestRejection::test_gamma[gamma-float64]",
    ),
    "parity_tests/test_torch_distributions.py": (
        "test_parity_with_torch_distributions[Binomial]",
        "test_parity_with_torch_distributions[Dirichlet]",
        "test_parity_with_torch_distributions[InverseGamma]",
        "test_where_torch_is_wrong[Multinomial, counts of another total]",
    ),
    "parity_tests/test_training_schedule.py": (
        "test_the_bound_in_prediction_has_that_weight_on_both_sides",
    ),
    "parity_tests/test_vae_mutations.py": (
        "test_a_broken_twin_is_caught[KL without its half]",
        "test_a_broken_twin_is_caught[condition of another sequence]",
        "test_a_broken_twin_is_caught[mean of the log-weights]",
        "test_a_broken_twin_is_caught[pixels of all steps alike]",
        "test_a_mistake_about_missing_values_is_caught[weights of the proposals ignored]",
        "test_another_order_of_the_divergence_is_caught",
    ),
    "parity_tests/test_variational_mutations.py": (
        "test_another_natural_gradient_is_noticed[a running mean that remembers its start]",
        "test_another_natural_gradient_is_noticed[precisions a millionth too fast]",
        "test_the_mistake_is_noticed[a shared draw taken for flipout]",
        "test_the_mistake_is_noticed[flipout taken for local]",
        "test_the_mistake_is_noticed[spread of the hierarchy off by a thousandth]",
        "test_weights_that_are_normalised_are_noticed",
    ),
    "tests/bayes/test_prediction.py": ("test_the_elbo_of_variational_layers",),
    "tests/bayes/test_selected.py": (
        "test_a_bayesian_last_layer_is_exact_by_one_update",
        "test_a_model_is_called_in_the_mode_that_is_meant[Stateful]",
        "test_a_single_row_gives_a_single_row[weights-full]",
        "test_laplace_updates_float32_weights_with_float64_rows[kron]",
        "test_laplace_updates_float32_weights_with_float64_rows[last_layer]",
        "test_variational_layers_take_several_inputs",
    ),
    "tests/bayes/test_stochastic_gradient.py": (
        "test_declared_noise_follows_a_falling_step_size",
        "test_noisy_gradients_settle_at_the_temperature[SGHMC-0.5]",
        "test_noisy_gradients_settle_at_the_temperature[SGLD-0.1]",
    ),
    "tests/bayes/test_swag.py": (
        "test_a_run_that_diverges_is_named",
        "test_draws_have_the_mean_and_covariance_of_the_paper[3]",
    ),
    "tests/bayes/test_weights.py": (
        "test_a_stream_ends_at_the_exact_posterior[laplace]",
        "test_natural_gradient_steps_end_at_the_weighted_posterior",
        "test_sgld_samples_the_weighted_posterior",
    ),
    "tests/contracts/test_loss_signature.py": (
        "test_a_row_of_weight_zero_does_not_count[negative_elbo full]",
        "test_a_row_of_weight_zero_does_not_count[negative_elbo layer]",
        "test_a_row_of_weight_zero_does_not_count[negative_elbo of layers]",
        "test_a_row_of_weight_zero_does_not_count[negative_iwae]",
        "test_is_a_function_of_its_arguments_alone[negative_elbo of layers]",
        "test_is_a_function_of_its_arguments_alone[negative_iwae]",
    ),
    "tests/distributions/test_bijections.py": (
        "test_values_inverse_and_log_determinant[probability]",
    ),
    "tests/distributions/test_binomial_draws.py": (
        "test_draws_follow_the_distribution[float64]",
        "test_the_slope_of_a_draw_is_zero",
    ),
    "tests/distributions/test_check.py": ("test_a_broken_promise_is_found[counts not normalised]",),
    "tests/distributions/test_circular.py": (
        "test_a_predictive_splits_the_circular_variance",
        "test_coverage_of_angles_given_within_pi",
        "test_quantiles_and_arcs",
        "test_the_cdf_counts_from_the_point_opposite_to_the_mean",
    ),
    "tests/distributions/test_convert.py": (
        "test_a_model_of_theirs_gives_what_a_model_of_ours_gives[distrax]",
        "test_a_model_of_theirs_gives_what_a_model_of_ours_gives[tfp]",
        "test_an_autoencoder_of_their_distributions",
        "test_parity_takes_them_apart",
        "test_the_density_and_the_shapes_stay[tensorflow_probability-RelaxedBernoulli]",
        "test_the_density_and_the_shapes_stay[tensorflow_probability-RelaxedOneHotCategorical]",
    ),
    "tests/distributions/test_divergence.py": (
        "test_continuous_pairs",
        "test_count_pairs",
        "test_monte_carlo_estimate_is_within_its_error",
    ),
    "tests/distributions/test_edges.py": (
        "test_a_bijector_of_distrax_keeps_to_its_member_under_vmap",
        "test_a_row_at_the_end_of_a_transformed_support_leaves_the_others",
        "test_draws_of_short_floats[bfloat16]",
        "test_low_rank_normals_in_float32[1.0-0.0001]",
        "test_the_slope_of_a_cdf_at_its_end_is_the_density_inside[Beta-parameters6-4.0]",
        "test_the_slope_of_a_cdf_at_its_end_is_the_density_inside[Gamma-parameters3-3.0]",
        "test_the_slope_of_a_cdf_at_its_end_is_the_density_inside[Gamma-parameters4-0.0]",
        "test_the_slope_of_a_cdf_at_its_end_is_the_density_inside[HalfNormal-parameters1-1.5957691216057308]",
        "test_the_slope_of_a_cdf_at_its_end_is_the_density_inside[LogNormal-parameters5-0.0]",
        "test_the_slope_of_a_cdf_at_its_end_is_the_density_inside[Weibull-parameters2-0.5]",
    ),
    "tests/distributions/test_entropy_of_counts.py": (
        "test_a_multinomial_with_a_class_that_cannot_be",
        "test_a_poisson_too_wide_to_be_summed",
        "test_binomials",
        "test_poisson_from_none_to_many",
    ),
    "tests/distributions/test_extremes.py": (
        "test_densities_and_slopes[float32]",
        "test_edges[float32]",
        "test_off_the_support_is_minus_infinity_with_slope_0",
        "test_second_derivatives_of_a_mixture_quantile",
    ),
    "tests/distributions/test_gamma_draws.py": (
        "test_an_element_does_not_move_its_neighbours",
        "test_slope_is_exact[float32-3e-07]",
        "test_slope_is_exact[float64-1e-12]",
    ),
    "tests/distributions/test_interface.py": (
        "test_intervals_hold_their_probability[BayesianMLP]",
    ),
    "tests/distributions/test_interpolated_quantiles.py": (
        "test_gradients_and_transformations",
        "test_moments_and_cdf_are_integrals[0]",
        "test_moments_and_cdf_are_integrals[1]",
    ),
    "tests/distributions/test_mixture_supports.py": ("test_vectors_of_counts[value1]",),
    "tests/distributions/test_mutual_information.py": (
        "test_counts_are_summed[rates0]",
        "test_counts_of_two_parameters",
    ),
    "tests/distributions/test_quantiles_of_counts.py": (
        "test_quantiles_invert_the_cdf_as_far_as_it_is_one_to_one[Binomial-float64]",
        "test_quantiles_invert_the_cdf_as_far_as_it_is_one_to_one[NegativeBinomial-float64]",
    ),
    "tests/distributions/test_transformations.py": (
        "test_out_of_and_into_jit_and_out_of_vmap[Binomial]",
    ),
    "tests/distributions/test_von_mises_draws.py": ("test_slope_is_exact[float64-1e-12]",),
    "tests/extremes/test_extremes.py": (
        "test_no_more_rows_are_out_than_are_listed[HalfNormal-float32]",
        "test_no_more_rows_are_out_than_are_listed[MixtureSameFamily(Normal)-float32]",
        "test_no_more_rows_are_out_than_are_listed[Transformed(Normal, Exp)-float32]",
        "test_no_more_rows_are_out_than_are_listed[Transformed(Normal, Sigmoid)-float32]",
        "test_no_more_rows_are_out_than_are_listed[VonMises-float32]",
    ),
    "tests/metrics/test_report.py": (
        "test_a_posterior_prediction_is_scored_as_the_mixture_that_it_is",
        "test_few_rows_do_not_condemn",
    ),
    "tests/nn/test_apply.py": ("test_a_posterior_over_a_model_with_state",),
    "tests/objectives/test_estimators.py": (
        "test_unbiased_ones_have_the_exact_gradient_on_average[three binary]",
    ),
    "tests/objectives/test_traced_priors.py": ("test_laplace_after_a_trace_and_under_one[kron]",),
    "tests/supervised/test_models.py": ("test_a_backbone_and_a_head[MixtureDensityNetwork]",),
    "tests/test_batches.py": (
        "test_a_laplace_approximation_has_the_curvature_of_its_rows[last_layer]",
        "test_a_variational_posterior_has_the_bound_of_its_draws",
    ),
    "tests/training/test_ensemble.py": ("test_a_member_that_fails_is_named_and_the_others_go_on",),
    "tests/training/test_errors.py": (
        "test_a_gradient_that_is_not_finite_is_named_by_its_path",
        "test_a_nan_in_the_loss_stops_at_its_step_and_keeps_the_step_before[rest of the rows-metric]",  # noqa: E501
        "test_a_nan_in_the_loss_stops_at_its_step_and_keeps_the_step_before[rest of the rows-no metrics]",  # noqa: E501
        "test_a_validation_metric_that_is_not_finite_stops_after_its_epoch",
        "test_lbfgs_gets_what_its_line_search_needs",
    ),
    "tests/training/test_fit.py": ("test_fit_is_the_loop_written_by_hand[adam, whole epochs]",),
    "tests/training/test_interrupts.py": ("test_a_log_that_raises_and_a_callback_that_raises",),
    "tests/training/test_mixed_precision.py": (
        "test_gradients_of_means_are_those_in_float32[GRUCell-bfloat16]",
    ),
    "tests/training/test_own_settings.py": (
        "test_a_loss_is_made_from_a_number_of_each_member",
        "test_bootstrap_members_are_single_fits[3]",
    ),
    "tests/vae/test_conditional.py": ("test_log_marginal_is_exact[learned]",),
    "tests/vae/test_conditional_recurrent.py": (
        "test_a_row_is_the_plain_model_of_its_condition",
        "test_draws_are_those_of_the_plain_model",
    ),
    "tests/vae/test_diagnostics.py": ("test_a_row_that_counts_twice_is_two_rows",),
    "tests/vae/test_discrete.py": ("test_a_schedule_and_a_relaxation_are_for_training_alone",),
    "tests/vae/test_experts.py": ("test_any_head_and_a_gate",),
    "tests/vae/test_generate.py": ("test_of_classes_the_mean_is_the_most_probable_one",),
    "tests/vae/test_hierarchical.py": (
        "test_with_the_exact_posterior_every_draw_gives_log_p[bottom-up]",
        "test_with_the_exact_posterior_every_draw_gives_log_p[ladder]",
    ),
    "tests/vae/test_padding.py": (
        "test_classes_read_either_name_of_the_mask",
        "test_the_twin_reads_lengths_alike",
    ),
    "tests/vae/test_pareto.py": (
        "test_a_generalised_pareto_law_by_its_quantiles[-0.4]",
        "test_bounded_weights_and_equal_ones_are_reliable",
        "test_the_chunks_change_nothing",
        "test_the_shape_of_the_tail_is_found[0.4]",
        "test_the_shape_of_the_tail_is_found[0.7]",
        "test_the_shape_of_the_tail_is_found[0.9]",
        "test_where_intervals_fail_they_are_said_to",
    ),
    "tests/vae/test_priors.py": ("test_mixture_prior_by_hand",),
    "tests/vae/test_recurrent.py": (
        "test_lengths_that_cut_nothing_draw_the_same_pixels",
        "test_log_likelihood_is_the_loop_over_time",
        "test_log_marginal_is_the_integral_over_the_latent",
        "test_more_padding_changes_no_pixel_that_is_drawn",
    ),
    "tests/vae/test_structural_zeros.py": (
        "test_em_never_falls_in_float32_over_many_rows",
        "test_gradients_are_those_without_the_zeros",
    ),
}
"""File -> its tests."""

LONGER = frozenset(f"{path}::{test}" for path, tests in BY_FILE.items() for test in tests)
