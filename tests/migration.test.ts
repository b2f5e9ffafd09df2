/** The steps of docs/migration.md. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bar, device, registers, u32 } from 'vfio-ts';
import { expect, it } from 'vitest';
import { load, MigrationSide, save } from './kit/migration-rig.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const root = join(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs/migration.md'), 'utf8');

function move(...addresses: string[]): { readonly status: number | null; readonly stdout: string } {
  const { status, stdout } = spawnSync('npx', ['tsx', 'examples/move-a-device.ts', ...addresses], { cwd: root, encoding: 'utf8' });
  return { status, stdout };
}

it('B.11 the example prints the output that the page shows', () => {
  const { status, stdout } = move();
  expect(status).toBe(0);
  expect(page).toContain(`$ node examples/move-a-device.ts\n${stdout}`);
});

it('B.11 and the same between two processes', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  try {
    const [a, b] = [join(folder, 'a.sock'), join(folder, 'b.sock')];
    await using _source = await VfioProcess.serve('edu,factorialMs=50', a);
    await using _target = await VfioProcess.serve('edu,factorialMs=50', b);
    const { status, stdout } = move(`unix:${a}`, `unix:${b}`);
    expect([status, stdout]).toEqual([0, expect.stringContaining('the factorial of 5 is 120 there')]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('B.11 the declared device of the page is moved with its job', () => {
  const sample = /```ts\n(device\(\{[\s\S]*?)```/.exec(page)![1]!;
  const make = new Function(
    'device',
    'bar',
    'registers',
    'u32',
    `return ${sample
      .replace(/\/\/.*$/gm, '')
      .trim()
      .replace(/;$/, '')}`,
  );
  const model = make(device, bar, registers, u32) as ReturnType<typeof device>;
  using source = new MigrationSide(model);
  using target = new MigrationSide(model);
  source.device.region(7).write16(4, 2);
  source.device.region(0).write32(0, 30);
  source.clock.advance(20);
  load(target, save(source));
  target.clock.advance(9);
  expect(target.device.region(0).read32(4)).toBe(0);
  target.clock.advance(2);
  expect(target.device.region(0).read32(4)).toBe(1);
});
