/** `vfio run` and `vfio nvme` on a device of the computer, which is a machine of `vfio exec`. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { programsUseVfio } from '../kit/program-cases.ts';
import { VfioProcess } from '../kit/vfio-process.ts';

const root = join(import.meta.dirname, '../..');
const vfio = [process.execPath, join(root, 'bin/vfio.js')];
// Drivers import the package, so that they stand in a folder below it.
const folder = mkdtempSync(join(root, '.cache/drivers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const DEVICE = '0000:01:00.0';

/** A command as a program of `vfio exec`, on a machine with a device. */
async function typed(device: string, ...command: string[]) {
  await using process = new VfioProcess(['exec', '--device', device, '--', ...command]);
  return { status: await process.ended, stdout: process.stdout, stderr: process.stderr };
}

it.skipIf(!programsUseVfio)('a driver of the package runs unchanged, by group and by cdev', async () => {
  for (const via of ['group', 'cdev']) {
    const { status, stdout, stderr } = await typed(
      join(root, 'examples/hello-device.ts'),
      ...vfio,
      ...['run', '--via', via, join(root, 'examples/hello-driver.ts'), DEVICE],
    );
    expect([stderr, status]).toEqual(['', 0]);
    expect(stdout).toBe('HELLO FROM USER SPACE\n');
  }
});

it.skipIf(!programsUseVfio)('events of the device are in the files of --events and --record', async () => {
  const file = join(folder, 'events.jsonl');
  const record = join(folder, 'record.jsonl');
  const run = [...vfio, 'run', '--events', file, '--record', record, join(root, 'examples/hello-driver.ts'), '01:00.0'];
  const { status } = await typed(join(root, 'examples/hello-device.ts'), ...run);
  expect(status).toBe(0);
  const read = (path: string) =>
    readFileSync(path, 'utf8')
      .trimEnd()
      .split('\n')
      .slice(1)
      .map((line) => JSON.parse(line) as { kind: string; device: string });
  const events = read(file);
  expect(new Set(events.map(({ device }) => device))).toEqual(new Set([DEVICE]));
  const kinds = events.map(({ kind }) => kind);
  for (const kind of ['open', 'access', 'mapping', 'set-irqs', 'dma-map', 'interrupt', 'wait']) expect(kinds).toContain(kind);
  expect(read(record)).toEqual(events.filter(({ kind }) => kind === 'access' || kind === 'mapping'));
});

it.skipIf(!programsUseVfio)('S2-41 a driver ends when the computer asks for the device, with status 5', async () => {
  const driver = join(folder, 'waits.ts');
  writeFileSync(
    driver,
    `import { open } from 'vfio-ts';
export async function main(address) {
  using dev = await open(address);
  using irq = dev.msi.enable(1);
  console.log('waits');
  await irq.next(0);
}`,
  );
  const shell = `out=$(mktemp); "$@" > $out & until grep -q waits $out; do sleep 0.1; done
    echo 1 | tee /sys/bus/pci/devices/${DEVICE}/remove; wait $!; echo status $?; test -e /sys/bus/pci/devices/${DEVICE} || echo removed; rm $out`;
  const { stdout, stderr } = await typed('edu', 'sh', '-c', shell, 'sh', ...vfio, 'run', driver, DEVICE);
  expect(stderr).toContain(`${DEVICE} is to be removed: its machine asks for it, and the command ends`);
  expect(stdout).toBe('1\nstatus 5\nremoved\n');
});

it.skipIf(!programsUseVfio)('blocks of an NVMe controller are written and verified, and read back', async () => {
  const image = join(folder, 'image');
  const bytes = Buffer.from(Array.from({ length: 2 ** 20 }, (_, i) => (i * 7) & 0xff));
  writeFileSync(image, bytes);
  const shell = `nvme="$1 $2 nvme"; $nvme write --verify --input ${image} ${DEVICE} && $nvme read --via group --count 2048 --output ${image}.back ${DEVICE}`;
  const { status, stderr } = await typed('nvme,size=8M', 'sh', '-c', shell, 'sh', ...vfio);
  expect(status, stderr).toBe(0);
  expect(readFileSync(`${image}.back`).equals(bytes)).toBe(true);
});

it.skipIf(!programsUseVfio)('errors say what is in the way', async () => {
  const run = ['run', join(root, 'examples/hello-driver.ts')];
  const none = await typed('edu', ...vfio, ...run, '0000:01:00.7');
  expect([none.status, none.stderr]).toEqual([5, expect.stringMatching(/ENODEV: there is no PCI device 0000:01:00\.7.*0000:01:00\.0/)]);
  const unbind = `printf ${DEVICE} | tee /sys/bus/pci/drivers/vfio-pci/unbind > /dev/null; "$@"`;
  const unbound = await typed('edu', 'sh', '-c', unbind, 'sh', ...vfio, ...run, DEVICE);
  expect([unbound.status, unbound.stderr]).toEqual([
    5,
    expect.stringMatching(/has no driver, and needs vfio-pci\n +fix: As root: vfio bind/),
  ]);
});
