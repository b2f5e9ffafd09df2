/** `vfio exec` as people start it: as an ordinary user, inside of itself, killed. */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';
import { VfioProcess } from '../kit/vfio-process.ts';
import { compiled, compiler, folder } from './programs.ts';

const vfio = [process.execPath, join(import.meta.dirname, '../../bin/vfio.js')];
const possible = spawnSync('unshare', ['--user', '--mount', 'true']).status === 0;
const isRoot = process.getuid!() === 0;
const nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];

function run(...command: string[]) {
  const { status, stdout, stderr } = spawnSync(command[0]!, command.slice(1), { encoding: 'utf8' });
  return { status, lines: stdout.trimEnd().split('\n'), stderr };
}

/** As proc(5) has it: Z for a process that has ended, and that its new parent has not seen yet. */
function stateOf(pid: number): string {
  try {
    return /^State:\t(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]!;
  } catch {
    return 'gone';
  }
}

it.skipIf(compiler === null || !isRoot)('an ordinary user has the same answers as root', () => {
  chmodSync(folder, 0o755);
  const command = [...vfio, 'exec', '--device', 'edu', '--', compiled('asks'), '/dev/vfio/1', '0000:01:00.0'];
  const root = run(...command);
  expect(root.lines).toContain('interrupts 1');
  expect(run(...nobody, ...command)).toEqual(root);
});

it.skipIf(compiler === null || !isRoot)('a program that becomes another user loses the nodes, and keeps its descriptors', () => {
  chmodSync(folder, 0o755);
  const { lines } = run(...vfio, 'exec', '--device', 'edu', '--', ...nobody, compiled('asks'), '/dev/vfio/1', '0000:01:00.0');
  expect(lines.slice(0, 4)).toEqual(['container ok', 'version 0', 'group EACCES', 'bad pointer EBADF']);
});

it.skipIf(!possible)('an ordinary user binds devices of the machine, and the computer keeps no record of it', () => {
  const script = [`"$0" "$1" bind 01:00.0 --driver pci-stub`, 'echo "$VFIO_BINDINGS"', `"$0" "$1" restore --all`].join(' && ');
  const { status, lines, stderr } = run(...(isRoot ? nobody : []), ...vfio, 'exec', '--device', 'edu', '--', 'sh', '-c', script, ...vfio);
  expect(status, stderr).toBe(0);
  expect(lines[0]).toBe('0000:01:00.0  vfio-pci -> pci-stub');
  expect(lines.some((line) => /\/vfio-exec-\w+\/run\//.test(line))).toBe(true);
  expect(lines.at(-1)).toBe('0000:01:00.0  pci-stub -> vfio-pci');
});

it.skipIf(!possible)('a program opens pseudo-terminals', () => {
  const code = 'import os; m, s = os.openpty(); os.write(s, b"x"); print(os.read(m, 1), os.ttyname(s))';
  for (const user of isRoot ? [[], nobody] : [[]]) {
    const { lines, stderr } = run(...user, ...vfio, 'exec', '--device', 'edu', '--', 'python3', '-c', code);
    expect(stderr).toBe('');
    expect(lines[0]).toMatch(/^b'x' \/dev\/\S*pts\/\d+$/);
  }
});

it.skipIf(compiler === null)('a program that is closed to its user goes on without VFIO', () => {
  chmodSync(folder, 0o755);
  const user = isRoot ? nobody : [];
  const command = [...vfio, 'exec', '--device', 'edu', '--no-sysfs', '--', compiled('hides'), '/dev/vfio/1'];
  expect(run(...user, ...command).lines).toEqual(['open ok', 'pread ok', 'nothing ENOENT', 'group ENOENT']);
});

it('says which part of the kernel is in use already', () => {
  const { status, stderr } = run(...vfio, 'exec', '--device', 'edu', '--', ...vfio, 'exec', '--device', 'edu', '--', 'true');
  expect(stderr).toMatch(/a seccomp filter that has a listener already.*\n +fix: Run vfio exec outside/);
  expect(status).toBe(4);
});

it.each([
  [['sh', '-c', 'exit 3'], 3],
  [['sh', '-c', 'kill -TERM $$'], 143],
  [['no-such-program'], 1],
])('ends as the program does: %s', (command, status) => {
  expect(run(...vfio, 'exec', '--device', 'edu', '--', ...command).status).toBe(status);
});

it('takes the program along when it is killed', async () => {
  const parent = spawn(vfio[0]!, [vfio[1]!, 'exec', '--device', 'edu', '--', 'sh', '-c', 'echo $$; exec sleep 1000'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface(parent.stdout);
  const [pid] = await new Promise<string[]>((settle) => lines.once('line', (line) => settle([line])));
  parent.kill('SIGKILL');
  // The program's end of the pipe closes with it.
  await new Promise((settle) => lines.once('close', settle));
  // A process that is being killed closes its files first.
  while (!/^(gone|Z|X)/.test(stateOf(Number(pid)))) await new Promise((settle) => setTimeout(settle, 10));
});

it.skipIf(compiler === null)('goes on after each mistake of a model', () => {
  const model = join(import.meta.dirname, '../kit/careless-model.ts');
  const { status, lines, stderr } = run(...vfio, 'exec', '--device', model, '--', compiled('pokes'), '0000:01:00.0', '6');
  expect(lines).toEqual(['id bad01234']);
  expect(status).toBe(0);
  expect(stderr).toContain('in a timer of Node');
});

it('says what it waits for after the program, and a signal ends the wait', async () => {
  // The child holds no stream of ours.
  const script = 'sleep 1000 >/dev/null 2>&1 & echo $!; exit 5';
  await using running = new VfioProcess(['exec', '--device', 'edu', '--', 'sh', '-c', script]);
  await running.says('sh has ended. Programs that it started go on');
  const child = Number(running.stdout);
  try {
    expect(await running.end('SIGINT')).toBe(5);
    expect(stateOf(child)).toMatch(/^S/);
  } finally {
    process.kill(child, 'SIGKILL');
  }
});
