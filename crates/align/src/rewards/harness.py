# What `python3 -I -c` runs in the sandbox: limits itself, then runs an answer and behind it the tests.
#     python3 -I -c HARNESS CPU MEMORY FILES PROCESSES SIZE SECRET TESTS
# Standard input holds SECRET bytes of a secret, TESTS bytes of tests, and the answer. Standard output gets `+` as soon as the answer can
# run, and the secret when the tests have come to their end; or `-` and a reason, where the answer cannot be limited; or `?` and what is
# wrong with the tests.
import builtins, os, resource, sys, types

cpu, memory, files, processes, size, secret, tests = map(int, sys.argv[1:])


def forbid():
    """Forbids calls that escape the limits, for this process and all that it starts (seccomp-bpf)."""
    import ctypes
    machine = os.uname().machine
    # Memory of System V lies in no process, so no limit of a process counts it. In namespaces of its own a program has the rights of an
    # administrator, and could mount file systems of any size.
    numbers = {'x86_64': dict(arch=0xC000003E, clone=56, forbidden=dict(shmget=29, semget=64, msgget=68, unshare=272, setns=308)),
               'aarch64': dict(arch=0xC00000B7, clone=220, forbidden=dict(shmget=194, semget=190, msgget=186, unshare=97, setns=268))}
    if machine not in numbers:
        raise OSError('the numbers of the system calls of %s are not known' % machine)
    arch, clone, forbidden = (numbers[machine][name] for name in ('arch', 'clone', 'forbidden'))
    clone3, new_namespaces, other_calls = 435, 0x7E020000, 0x40000000
    allow, refuse, missing = 0x7FFF0000, 0x00050001, 0x00050026
    load, equal, at_least, has_bits, give = 0x20, 0x15, 0x35, 0x45, 0x06
    program = [
        # Calls of 32-bit programs have other numbers.
        (load, 0, 0, 4), (equal, 1, 0, arch), (give, 0, 0, refuse),
        (load, 0, 0, 0), (at_least, 0, 1, other_calls), (give, 0, 0, refuse),
        # The flags of `clone3` cannot be seen from here; where it is missing, libraries use `clone`.
        (equal, 0, 1, clone3), (give, 0, 0, missing)]
    for number in forbidden.values():
        program += [(equal, 0, 1, number), (give, 0, 0, refuse)]
    program += [(equal, 1, 0, clone), (give, 0, 0, allow), (load, 0, 0, 16), (has_bits, 0, 1, new_namespaces), (give, 0, 0, refuse),
                (give, 0, 0, allow)]

    class Instruction(ctypes.Structure):
        _fields_ = [('code', ctypes.c_uint16), ('then', ctypes.c_uint8), ('otherwise', ctypes.c_uint8), ('value', ctypes.c_uint32)]

    class Program(ctypes.Structure):
        _fields_ = [('length', ctypes.c_uint16), ('instructions', ctypes.POINTER(Instruction))]

    instructions = (Instruction * len(program))(*program)
    set_seccomp, filter_calls = 22, 2
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    whole = Program(len(program), ctypes.cast(instructions, ctypes.POINTER(Instruction)))
    if prctl(set_seccomp, filter_calls, ctypes.byref(whole), 0, 0):
        raise OSError('seccomp: ' + os.strerror(ctypes.get_errno()))


def parts_of(node):
    values = [getattr(node, field, None) for field in getattr(node, '_fields', ())]
    return [part for value in values for part in (value if isinstance(value, list) else [value])]


def reads(nodes):
    """Whether expressions read a name, which may be the answer's, or call something."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        kind = type(node).__name__
        if kind == 'Call' or kind == 'Name' and type(node.ctx).__name__ == 'Load':
            return True
        # What a function would do, it does not do where it is defined.
        waiting += parts_of(node.args) if kind == 'Lambda' else parts_of(node)
    return False


def runs(statement):
    """Whether a statement does something with an answer, and does not only define names."""
    kind = type(statement).__name__
    if kind in ('Assign', 'AnnAssign'):
        return reads([statement.value])
    if kind == 'Expr':
        return type(statement.value).__name__ != 'Constant'
    if kind in ('FunctionDef', 'AsyncFunctionDef'):
        return bool(statement.decorator_list) or reads(statement.args.defaults + statement.args.kw_defaults)
    if kind == 'ClassDef':
        return bool(statement.decorator_list or statement.keywords) or any(map(runs, statement.body))
    return kind not in ('Import', 'ImportFrom')


def problem_of(tests):
    """What is wrong with tests, if something is: a fault of the example's, which no answer is to be rewarded or punished for."""
    syntax_tree = 0x400
    try:
        statements = compile(tests, 'tests.py', 'exec', syntax_tree, True).body
        runs_some = any(map(runs, statements))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return 'is no Python that runs: %s: %s' % (type(error).__name__, error)
    if not runs_some:
        return 'runs nothing, so every answer would pass: call what it defines, or name the function for `check` in `entry_point`'


try:
    forbid()
except (ImportError, OSError) as error:
    os.write(1, b'-' + str(error).encode())
    os._exit(1)
for what, limit in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, memory), (resource.RLIMIT_NOFILE, files),
                    (resource.RLIMIT_NPROC, processes), (resource.RLIMIT_FSIZE, size), (resource.RLIMIT_CORE, 0)):
    hard = resource.getrlimit(what)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(what, (limit, limit))
given = b''.join(iter(lambda: os.read(0, 1 << 16), b''))
problem = problem_of(given[secret:secret + tests])
if problem:
    os.write(1, b'?' + problem.encode('utf-8', 'replace'))
    os._exit(1)
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
