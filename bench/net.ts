/**
 * The model of the network card and its driver together. In one process: frames from one driver,
 * through its card, a cable and another card to another driver, where the floor is a loop in C that
 * moves the same bytes and descriptors; and a doorbell, beside the write of a register that rings
 * nothing. In two processes the floor is the echo of a message on a socket. Ours and floor are
 * measured in turns.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Reg } from '../src/abi/82576.ts';
import type { Wire } from '../src/abi/wire.ts';
import { simulate } from '../src/api/simulation.ts';
import { macBytes } from '../src/drivers/82576/mac-address.ts';
import type { Port } from '../src/drivers/82576/port.ts';
import { startPort } from '../src/drivers/82576/start-port.ts';
import { DriverDevice } from '../src/drivers/kit/driver-device.ts';
import { intel82576 } from '../src/models/82576/82576.ts';
import { cable } from '../src/models/wires/cable.ts';
import { compileWire, pinned, runPinned, vfio, withServer } from './processes.ts';
import type { Report, Row } from './report.ts';

const TURNS = 5;
const MILLISECONDS = 300;
/** Frames that are announced together. */
const BATCH = 32;
const BUFFER = 2048;

async function portOn(wire: Wire): Promise<Port> {
  const { device, owns } = simulate(intel82576({ wire }));
  return await startPort(DriverDevice.attach(device, { owns }), { interrupts: 'poll' });
}

/** bench/net.c as a program in `folder`; null where there is no compiler. */
function compileFloor(folder: string): string | null {
  const program = join(folder, 'net');
  try {
    execFileSync('cc', ['-O2', '-Wall', '-o', program, join(import.meta.dirname, 'net.c')]);
    return program;
  } catch {
    return null;
  }
}

/**
 * Nanoseconds for each frame from `from` to `to`. Frames lie in memory already, as in the floor.
 */
function frameNs(from: Port, to: Port, size: number): number {
  const [tx, rx] = [from.transmitQueue(), to.receiveQueue()];
  // A frame for the other port, in each buffer.
  const frame = new Uint8Array(size).fill(0x5a);
  frame.set(macBytes(to.mac), 0);
  frame.set(macBytes(from.mac), 6);
  for (let i = 0; i < tx.entries; i++) tx.bytes.set(frame, i * BUFFER);
  let frames = 0;
  let slot = 0;
  const begun = performance.now();
  let took = 0;
  while (took < MILLISECONDS) {
    for (let round = 0; round < 64; round++) {
      for (let i = 0; i < BATCH; i++) {
        if (!tx.put(tx.iova + slot * BUFFER, size)) break;
        slot = (slot + 1) & (tx.entries - 1);
      }
      tx.ring();
      const arrived = rx.poll();
      frames += arrived;
      rx.release(arrived);
    }
    took = performance.now() - begun;
  }
  if (frames === 0) throw new Error(`no frame of ${size} bytes arrived`);
  return (took * 1e6) / frames;
}

/** Nanoseconds for each write of `value` to a register at `offset`. */
function writeNs(port: Port, offset: number, value: number): number {
  const registers = port.dev.bar(0);
  const writes = 20_000;
  const begun = performance.now();
  for (let i = 0; i < writes; i++) registers.write32(offset, value);
  return ((performance.now() - begun) * 1e6) / writes;
}

function inTurns(turns: number, ours: () => number, floor: () => number): Pick<Row, 'ours' | 'floor'> {
  // The first turn, in which V8 compiles, does not count.
  ours();
  const rounds = Array.from({ length: turns }, () => ({ floor: floor(), ours: ours() }));
  return { ours: rounds.map((each) => each.ours), floor: rounds.map((each) => each.floor) };
}

async function oneProcess(report: Report, folder: string): Promise<void> {
  report.section('Two network cards on a cable, and their drivers, in one process');
  const [left, right] = cable();
  await using from = await portOn(left);
  await using to = await portOn(right);
  await Promise.all([from, to].map((port) => port.linkUp({ timeoutMs: 20_000 })));
  const program = compileFloor(folder);
  if (program === null) {
    report.note('SKIPPED: there is no C compiler for the floor (bench/net.c)');
  } else {
    const floor = (mode: string, size: number) => () => Number(execFileSync(program, [mode, String(size), '100'], { encoding: 'utf8' }));
    const row = (size: number, mode: string, floorName: string, more: Pick<Row, 'aim' | 'shown'> & { bytes?: number }): Row => ({
      name: `frames of ${size} bytes, driver to driver`,
      floorName,
      ...more,
      ...inTurns(TURNS, () => frameNs(from, to, size), floor(mode, size)),
    });
    const loop = 'a loop in C, of the same bytes and descriptors';
    report.row(row(64, 'frames', loop, { aim: '≥ 1 M/s', shown: 'M/s' }));
    report.row(row(1500, 'copy', 'memcpy of the frame', { aim: '≥ 10 Gbit/s', shown: 'Gbit/s', bytes: 1500 }));
  }
  const tail = from.dev.bar(0).read32(Reg.TDT);
  report.row({
    name: 'doorbell: TDT, with nothing new',
    floorName: 'write of VET, which rings nothing',
    ...inTurns(
      TURNS,
      () => writeNs(from, Reg.TDT, tail),
      () => writeNs(from, Reg.VET, 0x8100),
    ),
  });
}

interface BenchDocument {
  readonly framesPerSecond: number;
  readonly latencyNs: { readonly p50: number };
}

/** `vfio net bench` on a served card that loops frames back. */
async function twoProcesses(report: Report, folder: string): Promise<void> {
  report.section('A network card behind a socket, which loops frames back: two processes');
  const wire = compileWire(folder);
  if (wire === null) {
    report.note('SKIPPED: there is no C compiler for the floor (bench/wire.c)');
    return;
  }
  const path = join(folder, 'x.sock');
  const served = (depth: number) =>
    withServer([...vfio, 'serve', '82576', '--socket-path', path], path, () => {
      const bench = ['net', 'bench', `unix:${path}`, '--seconds', '0.5', '--depth', String(depth), '--json'];
      return JSON.parse(runPinned([...vfio, ...bench])) as BenchDocument;
    });
  const echo = () =>
    withServer([wire, 'server', path], path, () => (JSON.parse(runPinned([wire, 'floor', path])) as { read: number }).read);
  for (const [name, depth, value, shown] of [
    ['frames of 64 bytes, depth 128', 128, ({ framesPerSecond }: BenchDocument) => 1e9 / framesPerSecond, 'k/s'],
    ['a frame of 64 bytes, p50', 1, ({ latencyNs }: BenchDocument) => latencyNs.p50, 'µs'],
  ] as const) {
    const [ours, floor]: [number[], number[]] = [[], []];
    for (let turn = 0; turn < 3; turn++) {
      floor.push(await echo());
      ours.push(value(await served(depth)));
    }
    report.row({ name: `${name}, vfio-user`, ours, floor, floorName: 'an echo of 4 bytes, p50', shown });
  }
  if (pinned.length > 0) report.note('Driver and server have one core.');
}

export async function netBench(report: Report): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'net-bench-'));
  try {
    await oneProcess(report, folder);
    await twoProcesses(report, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
