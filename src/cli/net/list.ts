/** `vfio net list`: one line for each network card. */
import { Reg, Status } from '../../abi/82576.ts';
import { printedAddress } from '../../api/address.ts';
import { VfioError } from '../../base/errno.ts';
import { PhysicalPort } from '../../drivers/82576/physical-port.ts';
import type { Port } from '../../drivers/82576/port.ts';
import { accessIn, type DeviceAccess } from '../device-access.ts';
import type { Report } from '../nvme/inspect.ts';
import { grouped } from '../quantities.ts';
import { openPort } from './open-port.ts';

export interface ListOptions extends DeviceAccess {
  /** How long to wait for a link. */
  readonly waitSeconds: number;
  /** Lines of counters below each card. */
  readonly counters: boolean;
}

interface ListedPort {
  readonly address: string;
  readonly function: 'physical' | 'virtual';
  readonly mac: string;
  /** Mbit/s; 0: the link is down. */
  readonly speed: number;
  readonly fullDuplex: boolean;
  readonly interrupts: string;
  readonly vectors: number;
  /** Virtual functions that are enabled; null where the function can have none. */
  readonly vfs: number | null;
  readonly statistics: ReturnType<Port['statistics']>;
}

const columns: readonly (readonly [title: string, of: (port: ListedPort) => string])[] = [
  ['Address', (port) => port.address],
  ['Function', (port) => port.function],
  ['MAC', (port) => port.mac],
  ['Link', (port) => (port.speed === 0 ? 'down' : `${port.speed} Mbit/s ${port.fullDuplex ? 'full' : 'half'}`)],
  ['Interrupts', (port) => (port.interrupts === 'poll' ? 'none' : `${port.interrupts}, ${port.vectors}`)],
  ['VFs', (port) => (port.vfs === null ? '-' : String(port.vfs))],
  ['Received', (port) => grouped(port.statistics.receivedFrames)],
  ['Sent', (port) => grouped(port.statistics.sentFrames)],
];

export async function list(addresses: readonly string[], options: ListOptions): Promise<Report> {
  const ports: ListedPort[] = [];
  for (const address of addresses) ports.push(await look(address, options));
  const cells = ports.map((port) => columns.map(([, of]) => of(port)));
  const widths = columns.map(([title], i) => Math.max(title.length, ...cells.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd();
  const head = [line(columns.map(([title]) => title)), widths.map((width) => '-'.repeat(width)).join('  ')];
  const rows = ports.flatMap((port, i) => [line(cells[i]!), ...(options.counters ? counterLines(port) : [])]);
  return { lines: [...head, ...rows], document: { ports } };
}

async function look(address: string, options: ListOptions): Promise<ListedPort> {
  await using port = await openPort(address, accessIn(options));
  try {
    await port.linkUp({ timeoutMs: options.waitSeconds * 1000 });
  } catch (error) {
    // A card without a link is listed as such.
    if (!(error instanceof VfioError) || error.code !== 'ENETDOWN') throw error;
  }
  const { mac, link, interrupts, vectors } = port;
  const physical = port instanceof PhysicalPort;
  return {
    address: printedAddress(address),
    function: physical ? 'physical' : 'virtual',
    mac,
    speed: link.speed,
    fullDuplex: link.fullDuplex,
    interrupts,
    vectors,
    vfs: physical ? enabledFunctions(port) : null,
    statistics: port.statistics(),
  };
}

/** STATUS has their number, whether the driver serves them or not (8.2.2). */
function enabledFunctions(port: Port): number {
  const status = port.dev.bar(0).read32(Reg.STATUS);
  return (status & Status.IOV_MODE) === 0 ? 0 : (status & Status.NUM_VFS) >>> Status.NUM_VFS_SHIFT;
}

function counterLines({ statistics }: ListedPort): string[] {
  const counted = Object.entries(statistics.registers).filter(([, value]) => value !== 0);
  return counted.map(([name, value]) => `  ${name.padEnd(10)}${grouped(value).padStart(15)}`);
}
