/**
 * docs/admin.md, typed in as it stands: each command prints what the page shows, and the working
 * driver notices what the page describes.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { VfioProcess } from './kit/vfio-process.ts';

const root = join(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs/admin.md'), 'utf8');
/** The name of the working process differs from run to run. */
const alike = (text: string) => text.replace(/process \d+ \([\w.-]+, uid \d+\)/g, 'process PID');

it('S3-15 S3-18 S3-20 S2-41 S2-42 docs/admin.md: each command does what the page shows, while a driver is at work', async () => {
  const [, session = ''] = /^```console\n([\s\S]*?)^```$/m.exec(page)!;
  const [, heard = ''] = /^```\n(at work[\s\S]*?)^```$/m.exec(page)!;
  const steps = [...session.matchAll(/^\$ npx vfio (.*?)( &)?\n((?:(?!\$ ).*\n)*)/gm)];
  expect(steps.length).toBeGreaterThan(10);
  const directory = mkdtempSync(join(tmpdir(), 'vfio-ts-admin-'));
  const background: VfioProcess[] = [];
  try {
    for (const [, line, isBackground, shown] of steps) {
      const words = line!
        .split(' ')
        .map((word) => word.replace('/tmp/card', join(directory, 'card')).replace(/^examples\//, `${root}/examples/`));
      if (isBackground === undefined) {
        const { stdout, stderr } = await VfioProcess.run(...words);
        expect(alike(stderr + stdout), line).toBe(alike(shown!));
        continue;
      }
      const started = new VfioProcess(words);
      background.push(started);
      while (!/^(listening at|at work)/m.test(started.stderr + started.stdout)) {
        expect(started.child.exitCode, started.stderr).toBeNull();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    const [, driver] = background;
    expect([await driver!.ended, driver!.stdout]).toEqual([0, heard]);
  } finally {
    for (const one of background) await one[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  }
});

it('docs/admin.md has every command', async () => {
  const { adminCommands } = await import('../src/api/admin/commands.ts');
  for (const name of Object.keys(adminCommands)) expect(page, name).toMatch(new RegExp(`^\\|.*\`${name}\\b`, 'm'));
});
