/**
 * `vfio linux` as a user runs it: a User Mode Linux whose stock drivers drive the package's
 * devices. It needs the kernel of `vfio linux --build`.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { findKernel, hasKernel } from '../src/api/linux/kernel-file.ts';
import { main } from '../src/cli/main.ts';
import { Facts } from './guest/facts.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const present = process.platform === 'linux' && process.arch === 'x64' && hasKernel();
if (!present) {
  console.warn(
    "\n*** The tests that boot a Linux on the package's devices were SKIPPED: build their kernel, 'npx vfio linux --build' ***\n",
  );
}
const tools = ['mkfs.ext4', 'e2fsck'].filter(
  (tool) => !['/sbin', '/usr/sbin', '/bin', '/usr/bin'].some((at) => existsSync(join(at, tool))),
);
if (present && tools.length > 0) console.warn(`\n*** The tests of a disk's file system were SKIPPED: ${tools.join(', ')} is missing ***\n`);

const folder = mkdtempSync(join(tmpdir(), 'vfio-ts-linux-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Gives what the command has printed. @throws Error with all output for another status than 0 */
async function boot(options: readonly string[], script: string): Promise<{ facts: Facts; stderr: string }> {
  const { status, stdout, stderr } = await VfioProcess.run('linux', ...options, '--', 'sh', '-c', script);
  if (status !== 0) throw new Error(`status ${status}\n${stdout}\n${stderr}`);
  const facts = new Facts();
  for (const line of stdout.split('\n')) facts.add(line);
  return { facts, stderr };
}

/** The lines of the kernel that report trouble. */
const trouble = (stderr: string) => stderr.split('\n').filter((line) => /BUG|WARNING|Call Trace|Oops|I\/O error|timeout/i.test(line));

describe.skipIf(!present)('a booted Linux', () => {
  it('has the status of its command, its output apart from its errors, and none of its changes stay', async () => {
    const place = join(folder, 'changes');
    mkdirSync(place);
    const { status, stdout, stderr } = await VfioProcess.run(
      'linux',
      '--',
      'sh',
      '-c',
      `echo "to us"; echo wrong >&2; echo changed >'${place}/file'; cat '${place}/file'; uname -s; exit 7`,
    );
    expect([status, stdout]).toEqual([7, 'to us\nchanged\nLinux\n']);
    expect(stderr.split('\n')).toContain('wrong');
    expect(existsSync(join(place, 'file'))).toBe(false);
  });

  it.skipIf(process.getuid!() !== 0)('boots for an ordinary user', () => {
    const kernel = join(folder, 'kernel');
    copyFileSync(findKernel(), kernel);
    chmodSync(folder, 0o755);
    chmodSync(kernel, 0o755);
    const vfio = join(import.meta.dirname, '../bin/vfio.js');
    const script = 'id -u; mount -t tmpfs none /mnt && echo mounted; ls /dev/nvme0n1';
    const { stdout, stderr } = spawnSync(
      'setpriv',
      [
        ...['--reuid', '65534', '--regid', '65534', '--clear-groups'],
        process.execPath,
        vfio,
        'linux',
        '--kernel',
        kernel,
        '--',
        'sh',
        '-c',
        script,
      ],
      { encoding: 'utf8', timeout: 120_000, env: { ...process.env, HOME: folder } },
    );
    expect([stdout, trouble(stderr)]).toEqual(['0\nmounted\n/dev/nvme0n1\n', []]);
  });

  it('writes into a directory that is shared', async () => {
    const place = join(folder, 'shared');
    mkdirSync(place);
    await boot(['--share', place], `echo kept >'${place}/file'`);
    expect(readFileSync(join(place, 'file'), 'latin1')).toBe('kept\n');
  });

  it('a command that a signal ends has the status of a shell, and one that does not exist 127', async () => {
    const [killed, missing] = await Promise.all([
      VfioProcess.run('linux', '--', 'sh', '-c', 'kill -SEGV $$'),
      VfioProcess.run('linux', '--', '/no/such/program'),
    ]);
    expect([killed.status, missing.status]).toEqual([139, 127]);
  });

  it.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('%s ends it', async (signal, status) => {
    await using running = new VfioProcess(['linux', '--', 'sh', '-c', 'echo up >&2; sleep 1000']);
    await running.says('up');
    running.child.kill(signal);
    expect(await running.ended).toBe(status);
  });

  it('endpoint-test: the stock driver moves data and hears 32 messages of MSI-X', async () => {
    const program = join(folder, 'pcitest');
    const source = join(import.meta.dirname, 'guest/pcitest.c');
    const { status, stderr: said } = spawnSync('cc', ['-static', '-O1', '-o', program, source], { encoding: 'utf8' });
    expect([status, said]).toEqual([0, '']);
    const { facts, stderr } = await boot(['--device', 'endpoint-test', '--share', folder], `'${program}' msix`);
    const ok = Object.fromEntries(['read', 'write', 'copy'].flatMap((way) => [way, `${way}.dma`]).map((way) => [`msix.${way}`, 'ok']));
    expect(Object.fromEntries([...facts].map(([, key, value]) => [key, value]))).toEqual({
      'msix.type': 'ok',
      // User Mode Linux has so many, of the 2048 that the card has.
      'msix.messages': '32, then EINVAL',
      ...ok,
      'msix.doorbell': 'ok',
      end: 'reached',
    });
    expect(trouble(stderr)).toEqual([]);
  });

  it('virtio-rng: hwrng reads the bytes of the device', async () => {
    const device = join(import.meta.dirname, 'guest/devices/virtio-rng.ts');
    const { facts, stderr } = await boot(
      ['--device', device],
      `echo "@ rng current $(cat /sys/class/misc/hw_random/rng_current)"
       echo "@ rng bytes $(head -c 256 /dev/hwrng | od -An -v -tx1 | tr -d ' \\n')"
       echo "@ rng messages $(awk '/virtio0-input/ { print ($2 > 0) }' /proc/interrupts)"`,
    );
    expect([facts.get('rng', 'current'), facts.get('rng', 'bytes'), facts.get('rng', 'messages')]).toEqual([
      'virtio_rng.0',
      '5a'.repeat(256),
      '1',
    ]);
    expect(trouble(stderr)).toEqual([]);
  });

  describe.skipIf(tools.length > 0)('nvme', () => {
    const image = join(folder, 'disk.img');
    const files = join(folder, 'files');

    it('takes a file system and files, over several queues and a reset, and keeps them', { timeout: 180_000 }, async () => {
      mkdirSync(files);
      for (let i = 0; i < 200; i++) {
        writeFileSync(
          join(files, `file-${i}`),
          createHash('sha512')
            .update(`${i}`)
            .digest('hex')
            .repeat((i * 7) % 400),
        );
      }
      const device = ['--device', `nvme,image=${image},size=256M`, '--processors', '2'];
      const sums = (at: string) => `(cd '${at}' && sha256sum $(ls | sort) | sha256sum | cut -c1-64)`;
      const first = await boot(
        device,
        `set -e
         mkfs.ext4 -q /dev/nvme0n1
         mkdir -p /run/disk
         mount /dev/nvme0n1 /run/disk
         cp -r '${files}' /run/disk/files
         sync
         echo "@ disk before $${sums(files)}"
         echo 3 >/proc/sys/vm/drop_caches
         echo 1 >/sys/class/nvme/nvme0/reset_controller
         while [ "$(cat /sys/class/nvme/nvme0/state)" != live ]; do sleep 0.05; done
         echo "@ disk written $${sums('/run/disk/files')}"
         echo "@ disk queues $(grep -c 'nvme0q[1-9]' /proc/interrupts)"
         umount /run/disk`.replaceAll('$$', '$'),
      );
      expect(trouble(first.stderr)).toEqual([]);
      expect(first.facts.get('disk', 'written')).toBe(first.facts.get('disk', 'before'));
      expect(first.facts.get('disk', 'queues')).toBe('2');

      const checked = join(folder, 'checked.img');
      copyFileSync(image, checked);
      const fsck = spawnSync('e2fsck', ['-fn', checked], {
        encoding: 'utf8',
        env: { ...process.env, PATH: `${process.env.PATH}:/sbin:/usr/sbin` },
      });
      expect([fsck.status, fsck.stderr.trim().split('\n').length]).toEqual([0, 1]);

      const second = await boot(
        device,
        `mkdir -p /run/disk && mount -o ro /dev/nvme0n1 /run/disk && echo "@ disk kept $${sums('/run/disk/files')}"`.replaceAll('$$', '$'),
      );
      expect(second.facts.get('disk', 'kept')).toBe(first.facts.get('disk', 'before'));
    });
  });
});

it('without MSI-X there is no device for Linux, and the error says so', async () => {
  const terminal = recordingTerminal();
  const status = await main(['linux', '--kernel', process.execPath, '--device', 'edu', '--', 'true'], terminal);
  expect([status, terminal.stderr.join('\n')]).toEqual([1, expect.stringContaining('edu at 0000:01:00.0 has no MSI-X')]);
});

it('a kernel that is not there is named, with the way to build one', async () => {
  const before = process.env.XDG_CACHE_HOME;
  process.env.XDG_CACHE_HOME = join(folder, 'empty');
  try {
    const terminal = recordingTerminal();
    expect(await main(['linux', '--', 'true'], terminal)).toBe(1);
    expect(terminal.stderr.join('\n')).toContain('vfio linux --build');
  } finally {
    if (before === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before;
  }
});
