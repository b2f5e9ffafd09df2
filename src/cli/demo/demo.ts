/**
 * `vfio demo`: VFIO in ten seconds. A machine, a driver at work in another process, three attacks
 * refused, what it costs, a disk, tenants, a move.
 */

import { machineDocument } from '../../api/machine-document.ts';
import { parseMachine } from '../../api/machine-file.ts';
import { simulate } from '../../api/simulation.ts';
import { VfioError } from '../../base/errno.ts';
import { Process } from '../../engine/dma/process.ts';
import { Machine } from '../../engine/machine/machine.ts';
import type { EventStream } from '../../events/stream.ts';
import { models } from '../../models/registry.ts';
import { MemfdMemory } from '../../sys/memfd.ts';
import { treeLines } from '../machine-tree.ts';
import type { Terminal } from '../terminal.ts';
import { disk } from './disk.ts';
import type { EduTasks } from './edu-worker.ts';
import { movingDisk } from './moving-disk.ts';
import { putBehindSocket, startDriver } from './served-function.ts';
import { tenants } from './tenants.ts';
import type { WorkerProcess } from './worker-process.ts';

const machineText = `
name: demo
enableSriov: true
hostDrivers:
  - { name: snd_hda_intel, ids: ['class:0403'] }
devices:
  - { at: '00.0', name: host bridge, id: '8086:29c0', class: '060000' }
  - { at: '04.0', name: edu card, model: edu, driver: vfio-pci }
  - at: '1c.0'
    kind: root-port
    acs: true
    name: root port
    id: '8086:3420'
    devices:
      - { at: '00.0', name: graphics, id: '10de:1c03', class: '030000', driver: vfio-pci }
      - { at: '00.1', name: its sound, id: '10de:10f1', class: '040300' }
  - at: '1d.0'
    kind: root-port
    acs: true
    name: root port
    id: '8086:3421'
    devices:
      - { at: '00.0', name: NVMe disk, model: nvme, driver: vfio-pci, options: { size: 64M, blockSize: 4096 } }
  - at: '1e.0'
    kind: root-port
    acs: true
    name: root port
    id: '8086:3422'
    devices:
      - { at: '00.0', name: NVMe card, model: nvme, driver: vfio-pci, numVfs: 2, options: { size: 64M, vfs: 2, vfSize: 16M } }
`;

/** @param events  the stream of its devices; null: each has one of its own */
export async function demo(terminal: Terminal, events: EventStream | null = null): Promise<void> {
  const { out, paint } = terminal;
  const heading = (text: string) => {
    out('');
    out(paint.bold(text));
  };
  const started = performance.now();
  using machine = new Machine(parseMachine(machineText, 'demo'), {
    allocate: MemfdMemory.allocate,
    models,
    ...(events === null ? {} : { events }),
  });

  heading('1. A machine, and the isolation groups that follow from it');
  for (const line of treeLines(machineDocument(machine), terminal)) out(`   ${line}`);

  const edu = machine.function('00:04.0');
  using socket = putBehindSocket(machine, edu);
  await using driver = await startDriver<EduTasks>('edu', socket);

  heading(`2. A driver at work on ${edu.bdf}: process ${driver.pid}, uid ${driver.uid}, over a socket`);
  const { version, factorial, sent, back } = await driver.do('work');
  out(`   identification   edu ${version}, alive`);
  out(`   interrupt        10! = ${factorial}, signalled by MSI, through an eventfd`);
  out(`   DMA              ${sent.length} bytes to the device and back, in memory that both processes see: "${back}"`);
  if (back !== sent) throw new Error('the demo read back something else than it wrote');

  heading('3. Three attacks');
  const { dma } = edu.host;
  const faultsBefore = dma.faultCount;
  await driver.do('attack');
  const fault = dma.lastFault;
  if (fault === null || dma.faultCount !== faultsBefore + 1) throw new Error('DMA to an unmapped address was not stopped');
  out(`   ${paint.red('refused')}  the driver has the device write where nothing is mapped`);
  out(`            ${fault.access} at 0x${fault.iova.toString(16)} stopped by the IOMMU: ${fault.reason}; not a byte landed`);

  const intruder = Process.root({ pid: 666 });
  refused(terminal, 'another process opens the same group, as root', () => machine.openGroup(edu.group!.id, intruder));

  const graphics = machine.function('01:00.0');
  using other = machine.openContainer(intruder);
  using unsafe = machine.openGroup(graphics.group!.id, intruder);
  refused(terminal, 'a user takes the graphics card while the host still drives its sound', () => unsafe.setContainer(other));

  heading('4. The cost');
  await figures(terminal, driver);

  await disk(terminal, machine, machine.function('02:00.0'), '5');
  await tenants(terminal, machine, machine.function('03:00.0'), '6');
  await movingDisk(terminal, '7', events);
  out('');
  out(
    `${paint.dim(`${((performance.now() - started) / 1000).toFixed(1)} s. Next: vfio --help, or README.md for a device and a driver of your own.`)}`,
  );
}

/** Runs `attack`, which must fail with a `VfioError`, and explains it. */
function refused({ out, paint }: Terminal, what: string, attack: () => unknown): void {
  try {
    attack();
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    out(`   ${paint.red('refused')}  ${what}`);
    for (const line of error.explain().split('\n')) out(`            ${line}`);
    return;
  }
  throw new Error(`was not refused: ${what}`);
}

async function figures({ out }: Terminal, driver: WorkerProcess<EduTasks>): Promise<void> {
  const figure = (ns: number, what: string) => {
    const [value, unit] = ns < 1000 ? [ns, 'ns'] : [ns / 1000, 'µs'];
    out(`   ${value.toFixed(value < 100 ? 1 : 0).padStart(9)} ${unit.padEnd(4)} ${what}`);
  };
  const { read, interrupt, map } = await driver.do('measure');
  figure(read, 'a register read, to the other process and back');
  figure(interrupt, 'an interrupt raised, awaited and acknowledged');
  figure(map, 'a page mapped for DMA and unmapped, accounting included');
  const { device, owns } = simulate(models.edu());
  const registers = device.region(0);
  const reads = 200_000;
  const perRead = timed(() => {
    for (let i = 0; i < reads; i++) registers.read32(0);
  });
  device.close();
  owns[Symbol.dispose]();
  figure((perRead * 1e6) / reads, 'a register read where driver and device share a process');
}

/** Milliseconds of the second of two runs: the first lets the compiler do its work. */
function timed(run: () => void): number {
  run();
  const begun = performance.now();
  run();
  return performance.now() - begun;
}
