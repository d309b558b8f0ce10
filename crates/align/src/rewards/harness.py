# What `python3 -I -c` runs in the sandbox: limits itself, then runs an answer and behind it the tests.
#     python3 -I -c HARNESS CPU MEMORY FILES PROCESSES SIZE SECRET TESTS
# Standard input holds SECRET bytes of a secret, TESTS bytes of tests, and the answer. Standard output gets `+` as soon as the answer can
# run, and the secret when the tests have come to their end.
import builtins, os, resource, sys, types

cpu, memory, files, processes, size, secret, tests = map(int, sys.argv[1:])
for what, limit in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, memory), (resource.RLIMIT_NOFILE, files),
                    (resource.RLIMIT_NPROC, processes), (resource.RLIMIT_FSIZE, size), (resource.RLIMIT_CORE, 0)):
    hard = resource.getrlimit(what)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))
given = b''.join(iter(lambda: os.read(0, 1 << 16), b''))
verdict = os.dup(1)
nothing = os.open(os.devnull, os.O_RDWR)
os.dup2(nothing, 0)
os.dup2(nothing, 1)
os.close(nothing)
os.write(verdict, b'+')
sys.argv[:] = ['answer.py']
# Pickle and annotations look for the answer's names in the module that is called so.
program = sys.modules['__main__'] = types.ModuleType('__main__')
program.__builtins__ = builtins
space = program.__dict__
# Answer and tests are compiled apart: a quote that the answer leaves open swallows no tests.
parts = [compile(given[secret + tests:], 'answer.py', 'exec', dont_inherit=True),
         compile(given[secret:secret + tests], 'tests.py', 'exec', dont_inherit=True), given[:secret]]
del given
take, run, write = parts.pop, exec, os.write
# One expression, whose parts are evaluated from left to right: the secret, the tests and the functions to call are on the interpreter's
# stack before the answer runs. No name, frame or list leads to them from there, and no name is looked up once the answer has run.
write(verdict, take() + (run(take(), [space, run(take(), space)][0]) or b''))
