/** `vfio serve` as a user runs it: a process of its own, and clients that come and go. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { DeviceFlags, RegionIndex } from '../src/abi/vfio.ts';
import { socketPathOf } from '../src/api/socket-path.ts';
import { main } from '../src/cli/main.ts';
import { EventFd } from '../src/sys/eventfd.ts';
import { UnixSocket } from '../src/sys/unix-socket.ts';
import { VfioUserDevice } from '../src/vfio-user/client.ts';
import { encodeDmaMap, encodeMessage, encodeVersion } from '../src/vfio-user/messages.ts';
import { recordingTerminal } from './kit/recording-terminal.ts';
import { typescript } from './kit/typescript.ts';
import { VfioProcess } from './kit/vfio-process.ts';

const examples = join(import.meta.dirname, '../examples');
const folders: string[] = [];
/** A test gives up after so long. */
const PATIENCE_MS = 120_000;

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'vfio-ts-'));
  folders.push(path);
  return path;
}

afterEach(() => {
  for (const path of folders.splice(0)) rmSync(path, { recursive: true });
});

async function vfio(...argv: string[]) {
  const terminal = recordingTerminal();
  const status = await main(argv, terminal);
  return { status, out: terminal.stdout.join('\n'), err: terminal.stderr.join('\n') };
}

/** Wait for `condition`; the event loop runs meanwhile. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

describe('vfio serve', () => {
  it('prints the lines that attach it to QEMU, Cloud Hypervisor and a driver; SIGTERM ends it with 0, the socket gone', async () => {
    const path = join(folder(), "it's here.sock");
    await using served = await VfioProcess.serve('edu', path);
    await until(() => served.stdout.includes('vfio run'));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    // As a shell reads it.
    const device = /-device ('.*')$/m.exec(served.stdout)![1]!.replaceAll(`'\\''`, '\0').slice(1, -1).replaceAll('\0', "'");
    expect(JSON.parse(device)).toEqual({ driver: 'vfio-user-pci', socket: { type: 'unix', path } });
    expect(served.stdout).toContain('-m 1G \\\n  -object memory-backend-memfd,id=ram,size=1G,share=on \\\n  -device');
    expect(served.stdout).toContain(`cloud-hypervisor --memory size=1G,shared=on --user-device 'socket=`);
    expect(served.stdout).toContain(`vfio run driver.ts 'unix:`);
    expect(await served.end('SIGTERM')).toBe(0);
    expect(existsSync(path)).toBe(false);
  });

  it('SIGINT ends it with 130, a client at work or not, and the client learns it', async () => {
    const path = join(folder(), 'a.sock');
    await using served = await VfioProcess.serve('edu', path);
    using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    let gone = '';
    device.on((event) => {
      if (event.kind === 'gone') gone = event.reason;
    });
    expect(await served.end('SIGINT')).toBe(130);
    await until(() => gone !== '');
    expect(() => device.region(0).read32(0)).toThrow(expect.objectContaining({ code: 'ENODEV' }));
    expect(existsSync(path)).toBe(false);
  });

  it('gives every client the device as after power-on, also after a client was killed', async () => {
    const path = join(folder(), 'a.sock');
    await using served = await VfioProcess.serve('bench', path);
    {
      using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
      device.region(0).write32(0, 7);
      expect(device.region(0).read32(0)).toBe(7);
    }
    const script = `const { VfioUserDevice } = await import('${import.meta.dirname}/../src/vfio-user/client.ts');
      const device = VfioUserDevice.connect('${path}'); device.region(0).write32(0, 8); process.kill(process.pid, 'SIGKILL');`;
    const killed = spawn(process.execPath, [...typescript, '--input-type=module', '-e', script], { cwd: examples });
    await new Promise((resolve) => killed.on('close', resolve));
    expect(killed.signalCode).toBe('SIGKILL');
    using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    expect(device.region(0).read32(0)).toBe(0);
    await served.says(`pid ${killed.pid}`);
  });

  it('the same for a device that cannot be reset, and for the memory behind a BAR', async () => {
    const [edu, memory] = [join(folder(), 'edu.sock'), join(folder(), 'memory.sock')];
    const file = join(folder(), 'memory.ts');
    writeFileSync(
      file,
      `import { device, memory } from 'vfio-ts';\nexport default device({ id: '1234:0001', pcie: false, bars: { bar0: memory('4K') } });\n`,
    );
    await using _one = await VfioProcess.serve('edu', edu);
    await using _other = await VfioProcess.serve(file, memory);
    for (const path of [edu, edu, memory, memory]) {
      using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
      const offset = path === edu ? 0x80 : 0x10;
      expect(device.info.flags & DeviceFlags.RESET).toBe(0);
      device.region(RegionIndex.CONFIG).write16(0x04, 0x02);
      expect(device.region(0).read32(offset)).toBe(0);
      device.region(0).write32(offset, 7);
      expect(device.region(0).read32(offset)).toBe(7);
    }
  });

  it('runs our drivers, and shows its config space', async () => {
    const path = join(folder(), 'a.sock');
    await using _served = await VfioProcess.serve(join(examples, 'hello-device.ts'), path);
    const { status, stdout } = await VfioProcess.run('run', join(examples, 'hello-driver.ts'), `unix:${path}`);
    expect([status, stdout]).toEqual([0, 'HELLO FROM USER SPACE\n']);
    const there = await vfio('config', `unix:${path}`, '--numeric');
    expect(there.status).toBe(0);
    expect(there.out).toContain('1234:cafe');
    expect(there.out).toContain('MSI: Enable- Count=1/1');
    expect((await vfio('explain-write', `unix:${path}`, '0x04', '0x0406')).out).toMatch(/COMMAND\[10\]/);
  });

  it('a socket with a listener is refused, one that a dead process left is replaced', async () => {
    const path = join(folder(), 'a.sock');
    await using served = await VfioProcess.serve('edu', path);
    const second = await VfioProcess.run('serve', 'bench', '--socket-path', path);
    expect(second.status).toBe(1);
    expect(second.stderr).toContain('EADDRINUSE');
    expect(await served.end('SIGKILL')).toBe('SIGKILL');
    expect(existsSync(path)).toBe(true);
    await using again = await VfioProcess.serve('bench', path);
    using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    expect(device.region(1).info.size).toBe(2 ** 20);
    void again;
  });

  it('listens in the run-time directory of the user by default', async () => {
    const runtime = folder();
    await using served = new VfioProcess(['serve', 'edu'], { env: { XDG_RUNTIME_DIR: runtime } });
    await served.says('listening at');
    expect(statSync(join(runtime, 'vfio-ts/edu.sock')).isSocket()).toBe(true);
    expect(statSync(join(runtime, 'vfio-ts')).mode & 0o777).toBe(0o700);
    expect(() => socketPathOf('edu', '')).toThrow(expect.objectContaining({ fix: expect.stringContaining('--socket-path') }));
  });

  it('--fd takes a listening socket, and leaves its file to its maker', async () => {
    const path = join(folder(), 'a.sock');
    const listener = createServer().listen(path);
    await new Promise((resolve) => listener.on('listening', resolve));
    const { fd } = (listener as unknown as { _handle: { fd: number } })._handle;
    await using served = new VfioProcess(['serve', 'edu', '--fd', '3'], { extraFds: [fd] });
    listener.unref();
    // The server takes its time to start.
    using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    expect(device.region(0).read32(0)).toBe(0x0100_00ed);
    device.close();
    expect(await served.end()).toBe(0);
    expect(existsSync(path)).toBe(true);
    listener.close();
  });

  it('--fd takes a connected socket, and ends with its client', async () => {
    const [ours, theirs] = UnixSocket.pair();
    const fd = theirs.release();
    await using served = new VfioProcess(['serve', 'edu', '--fd', '3'], { extraFds: [fd.number] });
    fd[Symbol.dispose]();
    using device = VfioUserDevice.connect(ours, { timeoutMs: PATIENCE_MS });
    expect(device.region(0).read32(0)).toBe(0x0100_00ed);
    device.close();
    expect(await served.ended).toBe(0);
  });

  it('--stdio serves one client over pipes, with nothing else on standard output', async () => {
    await using served = new VfioProcess(['serve', 'edu', '--stdio']);
    served.child.stdin!.write(encodeMessage(0x1234, 1, encodeVersion(0, 1, {})));
    await until(() => served.stdout.length >= 20 && served.stdout.length >= Buffer.from(served.stdout, 'latin1').readUInt32LE(4));
    const reply = Buffer.from(served.stdout, 'latin1');
    expect([reply.readUInt16LE(0), reply.readUInt16LE(2), reply.readUInt32LE(8), reply.readUInt32LE(4)]).toEqual([
      0x1234,
      1,
      1,
      reply.length,
    ]);
    served.child.stdin!.end();
    expect(await served.ended).toBe(0);
  });

  it('--memlock bounds what a client may map, and the refusal names the limit that is needed', async () => {
    const path = join(folder(), 'a.sock');
    await using served = await VfioProcess.serve('edu', path, '--memlock', '64K');
    using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    using memory = device.dma.allocate(2 ** 20);
    const map = () => device.dma.map({ iova: 0n, memory });
    // Root may lock any amount: CAP_IPC_LOCK.
    if (process.getuid!() === 0) expect(map).not.toThrow();
    else expect(map).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    void served;
  });

  it('any address can be mapped, up to the last page', async () => {
    const path = join(folder(), 'a.sock');
    await using _served = await VfioProcess.serve('bench', path);
    using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    using memory = device.dma.allocate(4096);
    for (const iova of [0n, 0xfee0_0000n, 2n ** 63n, 2n ** 64n - 4096n]) device.dma.map({ iova, memory });
    expect(device.dma.unmapAll()).toBe(4n * 4096n);
  });

  it('interrupts arrive through eventfds', async () => {
    const path = join(folder(), 'a.sock');
    await using _served = await VfioProcess.serve('edu', path);
    using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    device.region(7).write16(4, 0x6);
    using sink = EventFd.create();
    device.setIrqs({ index: 1, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
    for (let i = 0; i < 3; i++) {
      device.region(0).write32(0x60, 1);
      expect(sink.waitSync(PATIENCE_MS) && sink.read()).toBe(1n);
      device.region(0).write32(0x64, 1);
    }
  });

  it('--watch: a change disconnects the client, the next one gets the new device; a broken file changes nothing', async () => {
    const home = folder();
    const file = join(home, 'dev.ts');
    const ids = join(home, 'ids.ts');
    const path = join(home, 'a.sock');
    const src = join(import.meta.dirname, '../src');
    writeFileSync(
      file,
      `import { bar } from '${src}/models/kit/bar.ts'; import { device } from '${src}/models/kit/device.ts'; import { u32 } from '${src}/base/registers.ts';
       import { IDENT } from './ids.ts';
       export default device({ id: '1234:0001', bars: { bar0: bar('4K', { a: u32(0, 'ro') }, { a: { reset: IDENT } }) } });`,
    );
    writeFileSync(ids, 'export const IDENT: number = 1;');
    await using served = await VfioProcess.serve(file, path, '--watch');
    const ident = () => {
      using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
      return device.region(0).read32(0);
    };
    using first = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    expect(first.region(0).read32(0)).toBe(1);
    let gone = false;
    first.on((event) => {
      gone ||= event.kind === 'gone';
    });
    writeFileSync(ids, 'export const IDENT: number = 2;');
    await served.says('ids.ts has changed: the next client gets the new device');
    await until(() => gone);
    expect(ident()).toBe(2);
    writeFileSync(ids, 'export const IDENT: number = ;');
    await served.says('the old device goes on');
    expect(ident()).toBe(2);
    writeFileSync(file, 'export default 5;');
    await served.says('does not declare a device');
    expect(ident()).toBe(2);
    expect(await served.end()).toBe(0);
  });

  it('is wrong usage without a place for the socket, with two, or without a device', async () => {
    expect((await vfio('serve', 'edu', '--fd', '3', '--stdio')).status).toBe(2);
    expect((await vfio('serve', 'edu', '--fd', 'x')).status).not.toBe(0);
    expect((await vfio('serve', 'edu', '--memlock', '5Q')).status).not.toBe(0);
    expect((await vfio('serve', 'edu', '--watch', '--socket-path', join(folder(), 'a'))).err).toContain('no file to watch');
    expect((await vfio('serve', 'nothing', '--socket-path', join(folder(), 'a'))).err).toContain('there is no model');
    expect((await vfio('serve', 'unix:/a', '--socket-path', join(folder(), 'a'))).err).toContain('not a device to serve');
    expect((await vfio('config', 'unix:/nowhere')).err).toContain('vfio serve');
    const long = await vfio('serve', 'edu', '--socket-path', `/tmp/${'a'.repeat(120)}`);
    expect(long.err).toContain('107');
  });
});

describe('vfio trace', () => {
  it('prints the messages of a client and its server, passes descriptors on, and keeps it for Wireshark', async () => {
    const home = folder();
    const [path, seen, file] = [join(home, 'a.sock'), join(home, 'seen.sock'), join(home, 'a.pcapng')];
    await using _served = await VfioProcess.serve('edu', path);
    await using tracing = new VfioProcess(['trace', `unix:${path}`, '--listen', seen, '--write', file]);
    await tracing.says('listening at');
    {
      using device = VfioUserDevice.connect(seen, { timeoutMs: PATIENCE_MS });
      device.region(7).write16(4, 0x6);
      using sink = EventFd.create();
      device.setIrqs({ index: 1, start: 0, count: 1, action: 'trigger', data: 'sinks', sinks: [sink] });
      device.region(0).write32(0x60, 1);
      expect(sink.waitSync(PATIENCE_MS) && sink.read()).toBe(1n);
    }
    await tracing.says('the client left');
    expect(await tracing.end('SIGINT')).toBe(130);
    const lines = tracing.stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^ +\d+\.\d{6} {2}-> {2}#\d+ +VERSION +0\.\d \{"capabilities"/);
    expect(tracing.stdout).toMatch(/-> +#\d+ +DEVICE_SET_IRQS +MSI trigger vector 0, eventfd {2}with anon_inode:\[eventfd\]/);
    expect(tracing.stdout).toMatch(/-> +#\d+ +REGION_WRITE +BAR0\+0x60 = 0x00000001/);
    const capture = readFileSync(file);
    let packets = 0;
    for (let at = 0; at < capture.length; at += capture.readUInt32LE(at + 4)) packets += Number(capture.readUInt32LE(at) === 6);
    expect(packets).toBe(lines.length);
    expect(existsSync(seen)).toBe(false);
    expect(existsSync(path)).toBe(true);
  });

  it('is refused for a file that is no socket', async () => {
    const { status, err } = await vfio('trace', 'sim:edu', '--listen', join(folder(), 'a'));
    expect([status, err]).toEqual([expect.any(Number), expect.stringContaining('unix:PATH')]);
    expect(status).toBeGreaterThan(0);
  });
});

describe('the bench model behind a socket', () => {
  const control = (op: number, len: number, iova: bigint, count: bigint, arg = 0n) => {
    const bytes = new Uint8Array(32);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, op, true);
    view.setUint32(4, len, true);
    view.setBigUint64(8, iova, true);
    view.setBigUint64(16, count, true);
    view.setBigUint64(24, arg, true);
    return bytes;
  };

  it('its control write is answered when the work is done: by messages, by lookup, and in mapped memory', async () => {
    const path = join(folder(), 'a.sock');
    await using _served = await VfioProcess.serve('bench', path);
    using device = VfioUserDevice.connect(path, { timeoutMs: PATIENCE_MS });
    const bar2 = device.region(2);
    using shared = device.dma.allocate(2 ** 20);
    shared.windows[0]!.fill(3);
    device.dma.map({ iova: 0x10_0000n, memory: shared });
    const bytes = new Uint8Array(2 ** 20).fill(5);
    let references = 1;
    const remote = {
      kind: 'remote' as const,
      size: bytes.length,
      references,
      get() {
        references++;
        return this;
      },
      put: () => void references--,
      [Symbol.dispose]: () => void references--,
      read: async (offset: number, into: Uint8Array) => into.set(bytes.subarray(offset, offset + into.length)),
      write: async (offset: number, from: Uint8Array) => bytes.set(from, offset),
    };
    device.dma.map({ iova: 0x100_0000n, memory: remote });
    const run = (op: number, iova: bigint, count: bigint) => {
      bar2.write(0, control(op, 4096, iova, count));
      const [t0, t1, ok, sum] = [0x40, 0x48, 0x50, 0x58].map((at) => bar2.read64(at)) as [bigint, bigint, bigint, bigint];
      expect(t1 >= t0).toBe(true);
      return [ok, sum];
    };
    for (const op of [1, 2, 6]) expect(run(op, 0x10_0000n, 100n)).toEqual([100n, 300n]);
    expect(run(3, 0x10_0000n, 100n)).toEqual([100n, 0n]);
    expect(run(5, 0x10_0000n, 3n)).toEqual([3n, 3n]);
    expect(shared.windows[0]![2 * 4096 + 4095]).toBe(2);
  });

  it('takes 70000 DMA mappings', async () => {
    const path = join(folder(), 'a.sock');
    await using _served = await VfioProcess.serve('bench', path);
    using socket = UnixSocket.connect(path);
    const inbox = new Uint8Array(65536);
    let received = 0;
    let failed = 0;
    const receive = () => {
      socket.wait('readable', PATIENCE_MS);
      const got = socket.receive(inbox, 0, inbox.length, []);
      received += Math.max(got, 0);
      return got;
    };
    const version = encodeMessage(0, 1, encodeVersion(0, 1, { maxDmaMaps: 100_000 }));
    socket.send(version, 0, version.length);
    const said = new TextDecoder().decode(inbox.subarray(20, receive()));
    expect(JSON.parse(said.replace(/\0$/, '')).capabilities.max_dma_maps).toBe(100_000);
    received = 0;
    const total = 70_000;
    for (let done = 0; done < total; done += 1000) {
      const batch = Buffer.concat(
        Array.from({ length: 1000 }, (_, i) =>
          encodeMessage(i, 2, encodeDmaMap({ flags: 3, offset: 0n, address: BigInt(done + i) * 8192n, size: 4096n })),
        ),
      );
      expect(socket.send(batch, 0, batch.length)).toBe(batch.length);
      for (const until = (done + 1000) * 16; received < until; ) {
        const before = received;
        if (receive() <= 0) throw new Error('it went away');
        for (let at = (24 - (before % 16)) % 16; at < received - before; at += 16) failed += inbox[at]! >> 5;
      }
    }
    expect(failed).toBe(0);
  });
});
