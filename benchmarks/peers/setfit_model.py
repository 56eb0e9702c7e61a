"""SetFit: contrastive pairs of the few rows, then its head, a logistic regression.

As its documentation has it: one epoch over pairs, batches of 16, 2e-5. The number of pairs is bounded by
`num_iterations=20`, its documentation's value of long standing: 40 pairs a row.
"""

import tempfile

from benchmarks.peers.problem import Problem

NUM_ITERATIONS = 20


def setfit(problem: Problem) -> list[float]:
    """Of single texts and classes. Raises ValueError for pairs or numbers, which it does not have."""
    if problem.numbers or any(len(texts) != 1 for texts in problem.texts):
        raise ValueError("SetFit has classes of single texts; give such rows")
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    model = SetFitModel.from_pretrained(problem.backbone, local_files_only=True, device=problem.device)
    rows = Dataset.from_dict(
        {"text": [text for (text,) in problem.texts], "label": [int(label) for label in problem.labels]}
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_epochs=1,
            num_iterations=NUM_ITERATIONS,
            batch_size=16,
            seed=problem.seed,
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        Trainer(model=model, args=arguments, train_dataset=rows).train()
    told = model.predict([text for (text,) in problem.test], as_numpy=True)
    return [float(value) for value in told]
