/** README's samples are the files in examples/, word for word, and they run as README says. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { MY_DRIVER, realDeviceCommands, typedAs } from './kit/readme-commands.ts';

const root = join(import.meta.dirname, '..');
const readme = existsSync(join(root, 'README.md')) ? readFileSync(join(root, 'README.md'), 'utf8') : '';

/** Fenced blocks whose first line is a comment that names their file. */
const samples = [...readme.matchAll(/^```ts\n(\/\/ ([\w-]+\.ts)\b[\s\S]*?)^```$/gm)].map((m) => ({ text: m[1]!, file: m[2]! }));

it('README shows the hello device, the hello driver and the hello machine', () => {
  expect(samples.map((s) => s.file)).toEqual(['hello-device.ts', 'hello-driver.ts', 'hello-machine.ts']);
});

it('each sample is the file in examples/ word for word, and shorter than 30 lines', () => {
  for (const { file, text } of samples) {
    expect(text, file).toBe(readFileSync(join(root, 'examples', file), 'utf8'));
    expect(text.trimEnd().split('\n').length, file).toBeLessThan(30);
  }
});

/** As a newcomer runs it; `where` is the folder in which it is typed. */
function vfio(where: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'bin', 'vfio.js'), ...args], {
    cwd: where,
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { status, stdout, stderr };
}

it('the hello driver runs on the hello device', () => {
  expect(vfio(root, 'run', 'examples/hello-driver.ts', 'sim:./examples/hello-device.ts')).toEqual({
    status: 0,
    stdout: 'HELLO FROM USER SPACE\n',
    stderr: '',
  });
});

it('both run when they are typed in somewhere else', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  try {
    for (const { file, text } of samples) writeFileSync(join(folder, file), text);
    expect(vfio(folder, 'run', 'hello-driver.ts', 'sim:./hello-device.ts')).toEqual({
      status: 0,
      stdout: 'HELLO FROM USER SPACE\n',
      stderr: '',
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('the hello machine refuses the second open as Linux does', () => {
  const { status, stdout } = spawnSync('npx', ['tsx', 'examples/hello-machine.ts'], { cwd: root, encoding: 'utf8' });
  expect(status).toBe(0);
  expect(stdout).toMatch(/vfio bind 0000:01:00.1 vfio-pci -m .*desktop.yaml/);
  expect(stdout).toContain('open: 3 again: -16 GROUP_SET_CONTAINER(-1): -14');
});

it('commands that README shows for the samples name files that exist', () => {
  for (const [, file] of readme.matchAll(/(?:run |sim:)(\.?\/?examples\/[\w-]+\.ts)/g))
    expect(existsSync(join(root, file!)), file).toBe(true);
});

/** Commands of the section "Your program, without hardware", each with the lines that it prints. */
const typed = [
  ...(/## Your program, without hardware[\s\S]*?```console\n([\s\S]*?)^```$/m.exec(readme)?.[1] ?? '').matchAll(
    /^\$ npx vfio (.*)\n((?:[^$].*\n)*)/gm,
  ),
].map((m) => ({ words: m[1]!.split(' '), lines: m[2]!.trimEnd().split('\n') }));

it('README runs programs of others by three commands', () => {
  expect(typed.map(({ words }) => words[0])).toEqual(['exec', 'exec', 'exec']);
});

it.each(typed)('vfio $words prints what README says', ({ words, lines }) => {
  const program = words[words.indexOf('--') + 1]!;
  if (spawnSync(program, ['--version']).error !== undefined) {
    console.warn(`SKIPPED: there is no ${program} (Debian: pciutils, qemu-utils and qemu-block-extra)`);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  try {
    for (const { file, text } of samples) writeFileSync(join(folder, file), text);
    const { stdout, stderr } = vfio(folder, ...words);
    const printed = `${stdout}${stderr}`.replaceAll(/^\[pid \d+\]/gm, '[pid 4711]').split('\n');
    if (printed.some((line) => line.includes('Unknown driver') || line.includes('Unknown protocol'))) {
      console.warn(`SKIPPED: this ${program} has no NVMe driver`);
      return;
    }
    // Each line is there, in this order; a trace has more of them.
    let at = -1;
    for (const line of lines) {
      const next = printed.indexOf(line, at + 1);
      expect(next, `${line}\nin\n${printed.join('\n')}`).toBeGreaterThan(at);
      at = next;
    }
    expect(printed).toEqual(expect.arrayContaining(lines));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

const driven = realDeviceCommands();

it('README drives a real device by seven commands, which a computer of vfio exec carries out', () => {
  expect(driven.length).toBe(7);
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  const cli = `${process.execPath} ${join(root, 'bin', 'vfio.js')}`;
  try {
    writeFileSync(
      join(folder, 'computer.yaml'),
      `devices: [{ at: 01.0, kind: root-port, bus: 3, devices: [{ at: 00.0, model: nvme, options: { size: 64M }, driver: nvme }] }]
hostDrivers: [{ name: nvme, ids: ['class:010802'] }]
`,
    );
    writeFileSync(join(folder, 'my-driver.ts'), MY_DRIVER.replace('(address)', '(address: string)'));
    const script = driven.map((line) => {
      const words = typedAs(line, { vfio: cli, user: 'root', driver: 'my-driver.ts' });
      return `echo "@ ${line.replaceAll('$', '')}"; ${words}; echo "@ status $?"`;
    });
    const { stdout, stderr } = spawnSync(
      process.execPath,
      [join(root, 'bin', 'vfio.js'), 'exec', '--machine', join(folder, 'computer.yaml'), '--', 'sh', '-c', script.join('\n')],
      { cwd: folder, encoding: 'utf8', env: { ...process.env, NO_COLOR: '1', XDG_RUNTIME_DIR: folder } },
    );
    const statuses = [...stdout.matchAll(/^@ status (\d+)$/gm)].map(([, status]) => Number(status));
    // The doctor may find something on the computer that the tests run on.
    expect([0, 3], stderr).toContain(statuses[0]);
    expect(statuses.slice(1), stdout + stderr).toEqual([0, 0, 0, 0, 0, 0]);
    expect(stdout).toMatch(/^0000:03:00\.0 .* nvme +group \d+ +free/m);
    expect(stdout).toContain('nvme -> vfio-pci');
    expect(stdout).toContain('vfio-ts NVMe');
    expect(stdout).toContain('mine: 0000:03:00.0');
    expect(stdout).toContain('vfio-pci -> nvme');
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 120_000);
