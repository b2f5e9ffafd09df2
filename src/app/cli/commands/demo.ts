/** `vfio demo`: VFIO in ten seconds. A machine, a driver at work, three attacks refused, and what it costs. */
import { Command } from 'commander';
import { Access } from '../../../abi/memory.ts';
import { Extension } from '../../../abi/vfio.ts';
import { VfioError } from '../../../base/errno.ts';
import { EduDriver } from '../../../drivers/edu/edu-driver.ts';
import { DriverDevice } from '../../../drivers/kit/driver-device.ts';
import { Process } from '../../../engine/dma/process.ts';
import { Machine } from '../../../engine/machine/machine.ts';
import { models } from '../../../models/registry.ts';
import { MemfdMemory } from '../../../sys/memfd.ts';
import { parseMachine } from '../../machine-file.ts';
import { treeLines } from '../machine-tree.ts';
import type { CommandContext } from '../main.ts';
import type { Terminal } from '../terminal.ts';

const machineText = `
name: demo
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
`;

export function demoCommand({ terminal }: CommandContext): Command {
  return new Command('demo')
    .description('a machine, a driver at work, three attacks refused, and what it costs; needs no root, no hardware, no kernel module')
    .addHelpText('after', '\nThis is what npm start runs.')
    .action(() => demo(terminal));
}

async function demo(terminal: Terminal): Promise<void> {
  const { out, paint } = terminal;
  const heading = (text: string) => out(`\n${paint.bold(text)}`);
  const started = performance.now();
  using machine = new Machine(parseMachine(machineText, 'demo'), { allocate: MemfdMemory.allocate, models });

  heading('1. A machine, and the isolation groups that follow from it');
  for (const line of treeLines(machine, terminal)) out(`   ${line}`);

  const edu = machine.function('00:04.0');
  const driverProcess = Process.user({ pid: 4711, uid: 1000, allocate: MemfdMemory.allocate });
  machine.chownGroup(edu.group!.id, driverProcess.uid);
  using container = machine.openContainer(driverProcess);
  using group = machine.openGroup(edu.group!.id, driverProcess);
  group.setContainer(container);
  container.setIommu(Extension.TYPE1v2_IOMMU);
  using device = DriverDevice.attach(group.openDevice(edu.bdf), { match: EduDriver.ids });
  using driver = new EduDriver(device);

  heading(`2. A user-level driver at work on ${edu.bdf}, as uid ${driverProcess.uid}`);
  out(`   identification   edu ${driver.version.major}.${driver.version.minor}, alive`);
  out(`   interrupt        10! = ${await driver.factorial(10)}, told by MSI`);
  using buffer = driver.alloc(4096);
  const text = 'through the IOMMU and back';
  const { written } = new TextEncoder().encodeInto(text, buffer.bytes);
  await driver.copyToDevice(buffer.iova, written);
  buffer.bytes.fill(0, 0, written);
  await driver.copyFromDevice(buffer.iova, written);
  const back = new TextDecoder().decode(buffer.bytes.subarray(0, written));
  out(`   DMA              ${written} bytes to the device and back: "${back}"`);
  if (back !== text) throw new Error('the demo read back something else than it wrote');

  heading('3. Three attacks');
  const { dma } = edu.host;
  const faultsBefore = dma.faultCount;
  await driver.copyFromDevice(0x66_6000n, 64);
  const fault = dma.lastFault;
  if (fault === null || dma.faultCount !== faultsBefore + 1) throw new Error('DMA to an unmapped address was not stopped');
  out(`   ${paint.red('refused')}  the device is told to write where nothing is mapped`);
  out(`            ${fault.access} at 0x${fault.iova.toString(16)} stopped by the IOMMU: ${fault.reason}; not a byte landed`);

  const intruder = Process.root({ pid: 666 });
  refused(terminal, 'another process opens the same group, as root', () => machine.openGroup(edu.group!.id, intruder));

  const graphics = machine.function('01:00.0');
  using other = machine.openContainer(intruder);
  using unsafe = machine.openGroup(graphics.group!.id, intruder);
  refused(terminal, 'somebody takes the graphics card while the host still drives its sound', () => unsafe.setContainer(other));

  heading('4. What it costs');
  await figures(terminal, device, driver);
  out(
    `\n${paint.dim(`${((performance.now() - started) / 1000).toFixed(1)} s. Next: vfio --help, or README.md for a device and a driver of your own.`)}`,
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

async function figures({ out }: Terminal, device: DriverDevice, driver: EduDriver): Promise<void> {
  const figure = (value: number, unit: string, what: string) =>
    out(`   ${value.toFixed(value < 100 ? 1 : 0).padStart(9)} ${unit.padEnd(4)} ${what}`);
  const registers = device.bar(0);
  const reads = 200_000;
  const perRead = timed(() => {
    for (let i = 0; i < reads; i++) registers.read32(0);
  });
  figure((perRead * 1e6) / reads, 'ns', 'a register read, through the whole gate');
  const rounds = 200;
  const begun = performance.now();
  for (let i = 0; i < rounds; i++) await driver.interrupt(1);
  figure(((performance.now() - begun) * 1e3) / rounds, 'µs', 'an interrupt, from the device to the awaiting driver');
  const iovas = 20_000;
  const page = MemfdMemory.allocate(4096);
  const dma = device.device.dma;
  const perMap = timed(() => {
    for (let i = 0; i < iovas; i++) {
      dma.map({ iova: 0x1000_0000n, memory: page, size: 4096, access: Access.READ_WRITE });
      dma.unmap(0x1000_0000n, 4096n);
    }
  });
  page[Symbol.dispose]();
  figure((perMap * 1e3) / iovas, 'µs', 'a page mapped for DMA and unmapped, accounting included');
}

/** Milliseconds of the second of two runs: the first lets the compiler do its work. */
function timed(run: () => void): number {
  run();
  const begun = performance.now();
  run();
  return performance.now() - begun;
}
