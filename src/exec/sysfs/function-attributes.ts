/**
 * The files of a function's directory in sysfs: a row each, with its permissions, what it shows,
 * and what a write does. The engine's refusals are the errors of the write.
 *
 * @see linux/Documentation/ABI/testing/sysfs-bus-pci; linux/drivers/pci/pci-sysfs.c, iov.c, pci.c
 */
import { CapId, Config, ExtCapId } from '../../abi/pci.ts';
import { VfioError } from '../../base/errno.ts';
import { resetMethods } from '../../engine/device/reset.ts';
import type { Machine } from '../../engine/machine/machine.ts';
import type { PciFunction } from '../../engine/machine/pci-function.ts';
import { PciExp } from '../../pci/capabilities/pci-express-registers.ts';
import { Sriov } from '../../pci/capabilities/single-root-virtualization.ts';
import type { Attribute, Stored } from './attribute.ts';
import { resourceLines } from './resource-lines.ts';

/** A function and its surroundings, which rows look at. */
export interface FunctionContext {
  readonly fn: PciFunction;
  readonly machine: Machine;
  /** Processors of this computer as a list, such as `0-3`. */
  readonly cpus: string;
}

interface Row {
  /** Permissions; those of a file that only shows are 0o444. */
  readonly mode?: number;
  /** Functions without it have no such file. Default: all have it. */
  readonly there?: (fn: PciFunction) => boolean;
  /** The content can change while the function is there. */
  readonly live?: true;
  readonly show?: (context: FunctionContext) => string;
  readonly store?: (context: FunctionContext, text: string) => Stored;
}

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
const upper = (value: number, digits: number): string => hex(value, digits).toUpperCase();

const subsystem = ({ declaration }: PciFunction) => ({ vendor: declaration.subsystemVendor ?? 0, device: declaration.subsystem ?? 0 });
const isExpress = ({ config }: PciFunction) => config.findCapability(CapId.EXP) !== 0;
const hasVfs = ({ sriov }: PciFunction) => sriov !== null;
const isBridge = (fn: PciFunction) => fn.isBridge;

/** The name by which udev finds the module of a device. */
function modalias(fn: PciFunction): string {
  const { vendor, device, classCode } = fn.declaration;
  const of = subsystem(fn);
  const [base, sub, progIf] = [classCode >> 16, (classCode >> 8) & 0xff, classCode & 0xff].map((part) => upper(part!, 2));
  return `pci:v${upper(vendor, 8)}d${upper(device, 8)}sv${upper(of.vendor, 8)}sd${upper(of.device, 8)}bc${base}sc${sub}i${progIf}`;
}

function uevent(fn: PciFunction): string {
  const { vendor, device, classCode } = fn.declaration;
  const of = subsystem(fn);
  const lines = [
    ...(fn.driver === null ? [] : [`DRIVER=${fn.driver}`]),
    `PCI_CLASS=${upper(classCode, 4)}`,
    `PCI_ID=${upper(vendor, 4)}:${upper(device, 4)}`,
    `PCI_SUBSYS_ID=${upper(of.vendor, 4)}:${upper(of.device, 4)}`,
    `PCI_SLOT_NAME=${fn.bdf}`,
    `MODALIAS=${modalias(fn)}`,
  ];
  return `${lines.join('\n')}\n`;
}

/** GT/s by the code of LNKCAP and LNKSTA. */
const speeds = ['Unknown', '2.5 GT/s PCIe', '5.0 GT/s PCIe', '8.0 GT/s PCIe', '16.0 GT/s PCIe', '32.0 GT/s PCIe', '64.0 GT/s PCIe'];
const LINK_WIDTH = 0x3f0;

function link({ config }: PciFunction, register: number, what: 'speed' | 'width'): string {
  const value = config.read(config.findCapability(CapId.EXP) + register, 2);
  return what === 'speed' ? `${speeds[value & PciExp.LNKCAP_SPEED] ?? 'Unknown'}\n` : `${(value & LINK_WIDTH) >> 4}\n`;
}

const sriovRegister = ({ config }: PciFunction, register: number): number =>
  config.read(config.findExtendedCapability(ExtCapId.SRIOV) + register, 2);

/** Drivers of the host enable a function when they take it; vfio-pci does so at the first open. */
function isEnabled({ driver, vfio }: PciFunction): boolean {
  return vfio === null ? driver !== null : vfio.openCount > 0;
}

/** As kstrtoul reads it. @throws VfioError EINVAL */
export function unsigned(text: string): number {
  if (/^(?:0x[0-9a-f]{1,8}|\d{1,10})$/i.test(text)) return Number(text);
  throw new VfioError('EINVAL', `${JSON.stringify(text.slice(0, 40))} is not a number`);
}

/** Acts at any number but 0. */
const whenNotZero =
  (act: (context: FunctionContext) => Stored) =>
  (context: FunctionContext, text: string): Stored =>
    unsigned(text) === 0 ? undefined : act(context);

/** linux/include/linux/pci.h: an override fits a page, with its newline. */
const OVERRIDE_MAX = 4095;

const rows: Readonly<Record<string, Row>> = {
  vendor: { show: ({ fn }) => `0x${hex(fn.declaration.vendor, 4)}\n` },
  device: { show: ({ fn }) => `0x${hex(fn.declaration.device, 4)}\n` },
  subsystem_vendor: { show: ({ fn }) => `0x${hex(subsystem(fn).vendor, 4)}\n` },
  subsystem_device: { show: ({ fn }) => `0x${hex(subsystem(fn).device, 4)}\n` },
  class: { show: ({ fn }) => `0x${hex(fn.declaration.classCode, 6)}\n` },
  revision: { show: ({ fn }) => `0x${hex(fn.declaration.revision ?? 0, 2)}\n` },
  modalias: { show: ({ fn }) => `${modalias(fn)}\n` },
  uevent: { mode: 0o644, live: true, show: ({ fn }) => uevent(fn), store: () => undefined },
  resource: { live: true, show: ({ fn }) => resourceLines(fn) },
  irq: { live: true, show: ({ fn }) => `${fn.config.read(Config.INTERRUPT_LINE, 1)}\n` },
  enable: { live: true, show: ({ fn }) => `${isEnabled(fn) ? 1 : 0}\n` },
  power_state: { live: true, show: ({ fn }) => `${fn.config.sleeping ? 'D3hot' : 'D0'}\n` },
  numa_node: { show: () => '-1\n' },
  local_cpulist: { show: ({ cpus }) => `${cpus}\n` },
  local_cpus: { show: ({ cpus }) => `${cpuMask(cpus)}\n` },
  dma_mask_bits: { show: () => '32\n' },
  consistent_dma_mask_bits: { show: () => '32\n' },
  msi_bus: { show: () => '1\n' },
  ari_enabled: { show: () => '0\n' },
  d3cold_allowed: { show: () => '1\n' },
  broken_parity_status: { show: () => '0\n' },
  current_link_speed: { there: isExpress, live: true, show: ({ fn }) => link(fn, PciExp.LNKSTA, 'speed') },
  current_link_width: { there: isExpress, live: true, show: ({ fn }) => link(fn, PciExp.LNKSTA, 'width') },
  max_link_speed: { there: isExpress, show: ({ fn }) => link(fn, PciExp.LNKCAP, 'speed') },
  max_link_width: { there: isExpress, show: ({ fn }) => link(fn, PciExp.LNKCAP, 'width') },
  secondary_bus_number: { there: isBridge, show: ({ fn }) => `${fn.secondary?.number ?? 0}\n` },
  subordinate_bus_number: { there: isBridge, live: true, show: ({ fn }) => `${fn.secondary?.subordinate ?? 0}\n` },
  driver_override: {
    mode: 0o644,
    live: true,
    show: ({ fn }) => `${fn.driverOverride ?? '(null)'}\n`,
    store: ({ fn, machine }, text) => {
      if (text.length >= OVERRIDE_MAX) throw new VfioError('EINVAL', `${fn.bdf}: driver_override is longer than ${OVERRIDE_MAX} bytes`);
      machine.setDriverOverride(fn.bdf, text);
    },
  },
  remove: {
    mode: 0o220,
    store: whenNotZero(({ fn, machine }) => machine.remove(fn.bdf)),
  },
  rescan: { mode: 0o200, store: (_, text) => void unsigned(text) },
  reset: {
    mode: 0o200,
    there: (fn) => resetMethods(fn).length > 0,
    store: ({ fn, machine }, text) => {
      if (unsigned(text) !== 1) throw new VfioError('EINVAL', `${fn.bdf}: a reset is asked for by 1`);
      machine.reset(fn.bdf);
    },
  },
  reset_method: { there: (fn) => resetMethods(fn).length > 0, show: ({ fn }) => `${resetMethods(fn).join(' ')}\n` },
  sriov_totalvfs: { there: hasVfs, show: ({ fn }) => `${fn.sriov!.totalVfs}\n` },
  sriov_numvfs: {
    mode: 0o644,
    there: hasVfs,
    live: true,
    show: ({ fn }) => `${fn.sriov!.numVfs}\n`,
    store: ({ fn, machine }, text) => machine.setNumVfs(fn.bdf, unsigned(text)),
  },
  sriov_offset: { there: hasVfs, show: ({ fn }) => `${sriovRegister(fn, Sriov.VF_OFFSET)}\n` },
  sriov_stride: { there: hasVfs, show: ({ fn }) => `${sriovRegister(fn, Sriov.VF_STRIDE)}\n` },
  sriov_vf_device: { there: hasVfs, show: ({ fn }) => `${hex(sriovRegister(fn, Sriov.VF_DID), 1)}\n` },
  sriov_drivers_autoprobe: { there: hasVfs, show: () => '1\n' },
  'power/control': {
    mode: 0o644,
    show: () => 'on\n',
    store: ({ fn, machine }, text) => {
      if (text === 'on') machine.wake(fn.bdf);
      else if (text !== 'auto')
        throw new VfioError('EINVAL', `${fn.bdf}: power/control is 'on' or 'auto', not ${JSON.stringify(text.slice(0, 40))}`);
    },
  },
  'power/runtime_status': { live: true, show: ({ fn }) => `${fn.config.sleeping ? 'suspended' : 'active'}\n` },
};

/** Of a list of processors, the mask in hexadecimal words of 32 bits. */
function cpuMask(list: string): string {
  let mask = 0n;
  for (const part of list.split(',')) {
    const [first = 0, last = first] = part.split('-').map(Number);
    for (let cpu = first; cpu <= last; cpu++) mask |= 1n << BigInt(cpu);
  }
  const words: string[] = [];
  for (let rest = mask; rest > 0n; rest >>= 32n) words.unshift(hex(Number(rest & 0xffff_ffffn), rest > 0xffff_ffffn ? 8 : 1));
  return words.join(',');
}

/** The files of `fn` by name, except `config` and the resources. */
export function functionAttributes(context: FunctionContext): ReadonlyMap<string, Attribute> {
  const found = new Map<string, Attribute>();
  for (const [name, { mode = 0o444, there, live, show, store }] of Object.entries(rows)) {
    if (there?.(context.fn) === false) continue;
    found.set(name, {
      mode,
      ...(live === true || show === undefined ? {} : { constant: true }),
      show: show === undefined ? null : () => show(context),
      store: store === undefined ? null : (text) => store(context, text),
    });
  }
  return found;
}
