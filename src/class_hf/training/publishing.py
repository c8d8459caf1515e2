"""The model card of a trainer, and its push to the Hub."""

from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from class_hf.curriculum.plan import CurriculumPlan
from class_hf.hub.model_card import model_card
from class_hf.hub.push import push_errors, push_model
from class_hf.training.arguments import CurriculumTrainingArguments
from class_hf.training.compact_gradients import CompactGradientTrainer
from class_hf.utils.files import write_text


class PublishingTrainer(CompactGradientTrainer):
    """The card and the push of a [`CurriculumTrainer`], in place of the Trainer's."""

    args: CurriculumTrainingArguments
    plan: CurriculumPlan | None

    def __init__(self, *args: Any, **kwargs: Any):
        self._card: dict[str, Any] = {}
        super().__init__(*args, **kwargs)

    def create_model_card(self, *args: Any, metrics: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Writes the model card `README.md` into the output folder.

        Values of an earlier call are kept, unless a later call sets them.

        Args:
            *args: `language`, `license`, `tags`, `model_name`, `finetuned_from`, `tasks`, `dataset_tags`, `dataset`,
                in this order, as for `transformers.Trainer`.
            metrics: *optional*, the report of a [`RetrievalEvaluator`], for the tables and the `model-index`.
            **kwargs: the same by name, and `training_files`, `command`, `synthetic` and `summary` of
                [`~class_hf.hub.model_card.model_card`].
        """
        if not self.is_world_process_zero():
            return
        names = ("language", "license", "tags", "model_name", "finetuned_from", "tasks", "dataset_tags", "dataset")
        values = dict(zip(names, args, strict=False)) | kwargs | {"metrics": metrics}
        # A push writes the card again, without the metrics.
        self._card |= {name: value for name, value in values.items() if value is not None}
        if "finetuned_from" in self._card:
            self._card["base_model"] = self._card.pop("finetuned_from")
        known = (
            "license",
            "base_model",
            "tags",
            "model_name",
            "dataset",
            "training_files",
            "command",
            "metrics",
            "synthetic",
            "summary",
        )
        fields = {name: self._card[name] for name in known if name in self._card}
        folder = Path(str(self.args.output_dir))
        fields.setdefault("model_name", folder.absolute().name)
        text = model_card(self.model, plan=self.plan, log_history=self.state.log_history, folder=folder, **fields)
        write_text(folder / "README.md", text)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Creates the repository before training, so that a wrong login or name is found early.

        Args:
            token: *optional*, must be None; the login of `hf auth login` is used.
            private: *optional*, as for `transformers.Trainer`.

        Raises:
            PushError: if the Hub refuses, or the network fails.
        """
        _refuse_token(token)
        name = self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name
        with push_errors(name, "the same command; or leave out --push_to_hub, and push later with class-hf push"):
            super().init_hf_repo(private=private)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Pushes the model, its card, pictures and records as one commit, see [`~class_hf.hub.push.push_model`].

        Args:
            commit_message, blocking, revision, private: as for `transformers.Trainer`.
            token: *optional*, must be None; the login of `hf auth login` is used.
            **kwargs: of [`create_model_card`].

        Returns:
            The commit, or a future of it if not `blocking`. None on all processes but the first.

        Raises:
            PushError: if the Hub or the network fails. The model is then in the output folder, and the message says
                how to push it.
        """
        _refuse_token(token)
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        assert self.hub_model_id is not None  # set by init_hf_repo
        self.create_model_card(**{"model_name": self.hub_model_id.split("/")[-1], **kwargs})
        push = partial(
            push_model,
            str(self.args.output_dir),
            self.hub_model_id,
            private=self.args.hub_private_repo if private is None else private,
            remote_code=self.args.hub_remote_code,
            revision=revision or self.args.hub_revision,
            commit_message=commit_message or "End of training",
        )
        return push() if blocking else HfApi().run_as_future(push)


def _refuse_token(token: str | None) -> None:
    if token is not None:
        raise ValueError("token is set. Log in with `hf auth login`, or set HF_TOKEN in the environment instead.")
