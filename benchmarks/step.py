"""What a step of an optimizer costs on CPU: `untuned bench` under a name of the tree's.

python benchmarks/step.py                                  # every model, a choice of optimizers
python benchmarks/step.py large conv --optimizers agd nero --threads 2
"""

from untuned.lab.programs.bench import main

if __name__ == "__main__":
    main()
