/**
 * Printed names from files, models and peers: no character of a name moves a cursor, changes a
 * colour or begins a line.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { main } from '../src/cli/main.ts';
import { wantsColour } from '../src/cli/terminal.ts';
import { captureOf } from './kit/captured.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';

const hostile = 'dev\u001b]0;OWNED\u0007\u001b[31m\nforged line\u009b2J\u202etxt';
const shown = 'dev\\x1b]0;OWNED\\x07\\x1b[31m\\nforged line\\x9b2J\\u202etxt';
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROLS = /[\0-\x08\x0b-\x1f\x7f-\x9f\u202e]/;

let folder: string;
let machine: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  machine = join(folder, 'machine.yaml');
  const device = JSON.stringify({ at: '01.0', name: hostile, id: '1234:11e8', class: '020000', driver: 'vfio-pci' });
  writeFileSync(machine, `name: m\ndevices:\n  - ${device}\n`);
});
afterEach(() => rmSync(folder, { recursive: true }));

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout, err: terminal.stderr };
}

describe('a hostile name', () => {
  it.each([['show'], ['explain', '01.0']])('vfio %s', async (name, ...more) => {
    const { out } = await vfio(name, machine, ...more.map((at) => `00:${at}`));
    expect(out.some((line) => line.includes(shown))).toBe(true);
    expect(out.filter((line) => line.includes('forged') && !line.includes(shown))).toEqual([]);
    expect(out.join('\n')).not.toMatch(CONTROLS);
  });

  it('--json is the same document, in harmless characters', async () => {
    const text = (await vfio('show', machine, '--json')).out.join('\n');
    expect(text).not.toMatch(CONTROLS);
    expect(JSON.parse(text).functions[0].name).toBe(hostile);
  });

  it('an error that quotes it is one line of each kind', async () => {
    const { err } = await vfio('show', join(folder, `no\u001b[2J\nvfio: forged`));
    expect(err.filter((line) => line.startsWith('vfio: '))).toHaveLength(1);
    expect(err.join('\n')).not.toMatch(CONTROLS);
  });

  it.each([['bad\nvfio: forged'], ['show', '--bad\nvfio: forged'], ['config', 'bad\nvfio: forged']])(
    'an argument that makes no sense begins no line: %j',
    async (...argv) => {
      const { status, err } = await vfio(...argv);
      expect([status, err.filter((line) => line.startsWith('vfio:'))]).toEqual([2, []]);
      expect(err.join('\n')).toContain('    vfio: forged');
    },
  );

  it('comments of a capture', () => {
    const bytes = captureOf([new Uint8Array(16), new Uint8Array(16)], { device: hostile, descriptors: hostile });
    expect(bytes.includes('\u001b]0;')).toBe(false);
    expect(bytes.toString('latin1').split(shown)).toHaveLength(3);
  });

  it('with colours, only those of the command are left', () => {
    const command = join(import.meta.dirname, '../bin/vfio.js');
    const env = { ...process.env, FORCE_COLOR: '1', NO_COLOR: '' };
    const { stdout } = spawnSync(process.execPath, [command, 'show', machine], { encoding: 'utf8', env });
    expect(stdout).toContain(shown);
    expect(stdout).toContain('\u001b[32mvfio-pci\u001b[39m');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are escapes
    expect(stdout.replace(/\u001b\[\d+m/g, '')).not.toMatch(CONTROLS);
    expect(stdout).not.toContain('\u001b[31mforged');
  });
});

it.each([
  [{}, true, true],
  [{}, false, false],
  [{ NO_COLOR: '1' }, true, false],
  [{ NO_COLOR: '' }, true, true],
  [{ TERM: 'dumb' }, true, false],
  [{ FORCE_COLOR: '1' }, false, true],
  [{ FORCE_COLOR: '3', NO_COLOR: '1' }, false, true],
  [{ FORCE_COLOR: '0' }, true, false],
  [{ FORCE_COLOR: '' }, false, false],
])('colour: %j on a terminal: %s', (env, isTerminal, wanted) => {
  expect(wantsColour(env, isTerminal)).toBe(wanted);
});
