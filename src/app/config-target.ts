/** Config spaces to look at: of a model, of a device behind a socket, of a function in a machine file, of this computer, or of a dump that lspci -xxx made. */
import { readFileSync } from 'node:fs';
import { RegionIndex } from '../abi/vfio.ts';
import { VfioError } from '../base/errno.ts';
import { type TriedWrite, VirtualConfig, type VirtualConfigHooks } from '../engine/device/virtual-config.ts';
import { Machine } from '../engine/machine/machine.ts';
import { explainConfigWrite } from '../pci/explain-write.ts';
import { parseHex } from '../pci/hex-dump.ts';
import { PermissionMap } from '../pci/permission-map.ts';
import { MemfdMemory } from '../sys/memfd.ts';
import { looksLikeFile, parseAddress } from './address.ts';
import { connect } from './connect.ts';
import { loadModel, machineAround } from './simulation.ts';

export interface ConfigTarget {
  readonly bdf: string;
  /** What the hardware's registers hold. */
  readonly bytes: Uint8Array;
  /** What a user sees through VFIO. */
  readonly userView: () => Uint8Array;
  /** What a write through VFIO would do. Nothing is carried out. */
  readonly explain: (offset: number, width: 1 | 2 | 4, value: number) => TriedWrite | Omit<TriedWrite, 'effects' | 'readsBack'>;
}

/** A device that nobody has open: no interrupt is enabled, and nothing listens. */
const idle: VirtualConfigHooks = {
  memoryDisabled: () => {},
  intxDisable: () => {},
  setPowerState: () => {},
  functionReset: () => {},
  msiEnabled: () => false,
  msiQueueMax: () => 0,
};

/**
 * @param address a BDF (of the machine file when one is given, else of this computer), `sim:…`, `unix:PATH`, or a file with a dump
 * @param token VF token, for a function of an SR-IOV device behind a socket
 * @throws VfioError EINVAL, ENOENT, ENODEV; EACCES when this computer does not let us read
 */
export async function configTarget(address: string, machineFile?: string, token?: string): Promise<ConfigTarget> {
  if (machineFile !== undefined) {
    const { loadMachine } = await import('./machine.ts');
    using machine = loadMachine(machineFile);
    return ofFunction(machine, address);
  }
  if (looksLikeFile(address)) return ofBytes(...firstOfDump(address));
  const parsed = parseAddress(address);
  switch (parsed.kind) {
    case 'model':
    case 'file': {
      const model = await loadModel(parsed);
      using _owns = model.owns;
      const { spec, bdf } = machineAround(model);
      using machine = new Machine(spec, { allocate: MemfdMemory.allocate });
      return ofFunction(machine, bdf);
    }
    case 'pci':
      return ofBytes(parsed.bdf, fromSysfs(parsed.bdf));
    case 'socket':
      return ofBytes('0000:00:00.0', fromServer(parsed.path, token));
  }
}

function ofFunction(machine: Machine, bdf: string): ConfigTarget {
  const fn = machine.function(bdf);
  const isVirtualFunction = fn.physical !== null;
  const virtual = new VirtualConfig(fn.config, idle, { isVirtualFunction });
  const bytes = fn.config.bytes.slice();
  // The ids that hardware does not tell come from the PF, as in what lspci prints.
  if (isVirtualFunction) bytes.set(virtual.bytes.subarray(0, 4));
  return {
    bdf: fn.bdf,
    bytes,
    userView: () => {
      const bytes = new Uint8Array(virtual.size);
      virtual.read(0, bytes);
      return bytes;
    },
    explain: (offset, width, value) => virtual.explain(offset, width, value),
  };
}

/** Bytes alone tell what VFIO lets through, not what the hardware then makes of it: every bit is taken for writable there. */
function ofBytes(bdf: string, bytes: Uint8Array): ConfigTarget {
  const map = () => {
    if (bytes.length >= 256) return new PermissionMap({ size: bytes.length, bytes });
    throw new VfioError('EACCES', `only ${bytes.length} bytes of the config space of ${bdf} could be read`, {
      fix: 'Linux shows the rest to root only: run as root, or give a dump that root made with lspci -xxxx.',
    });
  };
  return {
    bdf,
    bytes,
    userView: () => {
      const { virt, initial } = map();
      return bytes.map((hardware, at) => (initial[at]! & virt[at]!) | (hardware & ~virt[at]!));
    },
    explain: (offset, width, value) => {
      const known = map();
      const hardware = { bytes, writableBits: () => 0xff, writeOneClearsBits: () => 0 };
      return explainConfigWrite(known, { virtual: known.initial, hardware }, offset, width, value);
    },
  };
}

/** What the server shows: the user's view, and its bus address is nobody's business. */
function fromServer(path: string, token?: string): Uint8Array {
  using device = connect(path, token === undefined ? {} : { token });
  const config = device.region(RegionIndex.CONFIG);
  const bytes = new Uint8Array(config.info.size);
  return bytes.subarray(0, config.read(0, bytes));
}

function fromSysfs(bdf: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(`/sys/bus/pci/devices/${bdf}/config`));
  } catch (cause) {
    throw new VfioError('ENODEV', `${bdf} is not a PCI device of this computer`, {
      cause,
      fix: 'For a device of a machine file add --machine FILE; for a dump give its path, such as ./dump.txt.',
    });
  }
}

function firstOfDump(path: string): [string, Uint8Array] {
  let text: string;
  try {
    text = readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (cause) {
    throw new VfioError('ENOENT', `cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  const [first] = parseHex(text);
  if (first === undefined) throw new VfioError('EINVAL', `${path} holds no config space`, { fix: 'Make it with lspci -xxxx.' });
  return [first.bdf, first.bytes];
}
