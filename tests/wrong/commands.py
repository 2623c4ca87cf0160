"""Commands beside train.py, and the scripts."""

from tests.wrong import Call

COMMANDS = (
    Call("results none", "parse_test_res", (), ("arguments are required: directory",)),
    Call(
        "results two",
        "parse_test_res",
        ("one", "two"),
        ("2 directories were given, 'one', 'two'", "one is allowed", "once for each"),
    ),
    Call("results missing", "parse_test_res", ("{tmp}/nowhere",), ("no directory", "nowhere")),
    Call("results file", "parse_test_res", ("{tmp}/file",), ("is a file; give the folder",)),
    Call("results empty", "parse_test_res", ("{tmp}",), ("no runs in", "Give a folder"), code=1),
    Call(
        "results keyword",
        "parse_test_res",
        ("{run}", "--keyword", "acc"),
        ("choose from", "accuracy"),
    ),
    Call("data nothing", "tools.data", (), ("COMMAND", "--help")),
    Call("data command", "tools.data", ("verfy",), ("invalid choice: 'verfy'", "verify", "--help")),
    Call("verify nothing", "tools.data", ("verify",), ("required: NAME", "--help")),
    Call(
        "verify unknown", "tools.data", ("verify", "dtt"), ("no dataset 'dtt'", "did you mean dtd")
    ),
    Call(
        "download unknown",
        "tools.data",
        ("download", "x"),
        ("no dataset 'x'", "allowed: imagenet"),
    ),
    Call(
        "download from",
        "tools.data",
        ("download", "dtd", "--root", "{tmp}/d", "--from", "{tmp}/n"),
        ("--from .*no such file",),
    ),
    Call(
        "download from odd",
        "tools.data",
        ("download", "dtd", "--root", "{tmp}/d", "--from", "{tmp}/file"),
        ("takes files named", "or an archive"),
    ),
    Call(
        "toy data",
        "tools.data",
        ("toy", "{tmp}/t", "--classes", "1"),
        ("classes is 1", "allowed: 2"),
    ),
    Call(
        "toy data train",
        "tools.data",
        ("toy", "{tmp}/t", "--train", "7"),
        ("train is 7", "allowed: 5"),
    ),
    Call(
        "toy data count",
        "tools.data",
        ("toy", "{tmp}/t", "--train", "x"),
        ("whole number", "--help"),
    ),
    Call("toy shift", "tools.toy", ("{tmp}/t", "--shift", "2"), ("shift is 2", "allowed: 0")),
    Call("toy count", "tools.toy", ("{tmp}/t", "--train", "0"), ("--train: '0' is not", "--help")),
    Call("toy place", "tools.toy", ("{tmp}/file",), ("file",)),
    Call("demo method", "tools.demo", ("MMLR",), ("unknown method 'MMLR'", "did you mean MMRL")),
    Call(
        "benchmark precision", "tools.benchmark", ("--precisions", "fp8"), ("fp8", "fp32", "--help")
    ),
    Call(
        "benchmark rounds",
        "tools.benchmark",
        ("--rounds", "0"),
        ("'0' is not a whole number", "--help"),
    ),
    Call(
        "benchmark file",
        "tools.benchmark",
        ("--json", "{tmp}/n/a.json"),
        ("no folder .*; make it",),
    ),
    Call("convert nothing", "tools.convert_checkpoint", (), ("required: IN, OUT", "--help")),
    Call(
        "convert missing",
        "tools.convert_checkpoint",
        ("{tmp}/n", "{tmp}/o.pth"),
        ("there is no .*n",),
    ),
    Call(
        "convert kind",
        "tools.convert_checkpoint",
        ("{run}", "{tmp}/o.pth", "--to", "x"),
        ("choose from", "--help"),
    ),
    Call(
        "convert suffix",
        "tools.convert_checkpoint",
        ("{run}", "{tmp}/o.pth", "--to", "safetensors"),
        ("its own kind",),
    ),
    Call(
        "convert trainer",
        "tools.convert_checkpoint",
        ("{run}", "{tmp}/o.pth", "--trainer", "X"),
        ("allowed: CoCoOp|allowed: ",),
    ),
    Call(
        "convert text",
        "tools.convert_checkpoint",
        ("{tmp}/file", "{tmp}/o.pth"),
        ("file is a text",),
    ),
    Call("pretrain steps", "tools.small_clip.pretrain", ("--steps", "0"), ("'0' is not", "--help")),
    Call(
        "pretrain place",
        "tools.small_clip.pretrain",
        ("--out", "{tmp}/n/w.npz"),
        ("no folder .*; make it",),
    ),
    Call(
        "script nothing",
        "mmrl/few_shot.sh",
        (),
        ("usage: few_shot.sh DATASET", "datasets: caltech101"),
    ),
    Call(
        "script data set",
        "coop/base2new_train.sh",
        ("caltech",),
        ("unknown dataset 'caltech'", "allowed"),
    ),
    Call(
        "script seed",
        "maple/base2new_test.sh",
        ("dtd", "one"),
        ("a seed is a whole number, not 'one'",),
    ),
    Call(
        "script yaml",
        "mmrl/few_shot.sh",
        ("nowhere.yaml",),
        ("unknown dataset 'nowhere.yaml'", "allowed"),
    ),
    Call("sweep nothing", "all/base2new.sh", (), ("usage: base2new.sh METHOD", "methods: .*MMRL")),
    Call(
        "sweep method", "all/few_shot.sh", ("mmlr",), ("did you mean MMRL", "methods: .*MMRLPlus")
    ),
)
