/**
 * Intel's 82576: a gigabit Ethernet port with 16 queue pairs, a switch between pools, and eight
 * virtual functions. One port is modelled, which is function 0 of the two of the silicon.
 *
 *     intel82576({ wire, mac: '52:54:00:12:34:56' })
 *
 * @see Intel 82576EB Gigabit Ethernet Controller Datasheet, revision 2.63
 */
import {
  I82576_BAR_BYTES,
  I82576_DEVICE,
  I82576_VF_BAR_BYTES,
  I82576_VF_DEVICE,
  I82576_VF_VECTORS,
  INTEL_VENDOR,
} from '../../abi/82576.ts';
import type { DeviceHost } from '../../abi/device-host.ts';
import type { Wire } from '../../abi/wire.ts';
import { VfioError } from '../../base/errno.ts';
import { msi, msix, pcie, pm } from '../../pci/capabilities.ts';
import { classCodes } from '../../pci/class-codes.ts';
import type { DeviceModel, PciDeclaration, VirtualFunctionModel } from '../../pci/declaration.ts';
import { aer, ari } from '../../pci/extended-capabilities.ts';
import { newEeprom } from './eeprom/contents.ts';
import { POOLS } from './parts.ts';
import { Bar, PhysicalFunction } from './physical-function.ts';
import { VirtualFunction } from './virtual-function.ts';

/** A port: its address, its wire, and its virtual functions. */
export interface Intel82576Options {
  /** Where the port is plugged in. Default: nowhere, so that it has no link. */
  readonly wire?: Wire;
  /** The address in the EEPROM: `52:54:00:12:34:56`. Default: a random local one. */
  readonly mac?: string;
  /** How many virtual functions it can have, up to 8; 0: it has no SR-IOV. Default: 8. */
  readonly vfs?: number;
}

/** Routing ids of VFs, from that of the PF (9.6.4.7). */
const VF_OFFSET = 0x80;
const VF_STRIDE = 2;
const FLASH_BYTES = 0x2_0000;
const IO_BYTES = 32;
const MSIX_BYTES = 0x4000;
const MSIX_PENDING = 0x2000;
/** As the EEPROM's word 16 has it (6.2.17). */
const PF_MESSAGES = 10;

/** @throws VfioError EINVAL for an address or a number of virtual functions that cannot be */
export function intel82576(options: Intel82576Options = {}): DeviceModel {
  const eeprom = newEeprom(options.mac === undefined ? randomMac() : parseMac(options.mac));
  const totalVfs = checkVfs(options.vfs ?? POOLS);
  return {
    declaration: physicalDeclaration,
    create: (host: DeviceHost) => new PhysicalFunction(host, { wire: options.wire, eeprom }),
    ...(totalVfs === 0 ? {} : { sriov: { totalVfs, firstOffset: VF_OFFSET, stride: VF_STRIDE, at: 0x160, vf: virtualFunctions } }),
  };
}

const virtualFunctions: VirtualFunctionModel = {
  get declaration() {
    return virtualDeclaration;
  },
  create(host, index, physical) {
    if (!(physical instanceof PhysicalFunction)) {
      throw new VfioError('ENODEV', `VF ${index} of an 82576 has no card: its PF is none`, {
        fix: 'Enable virtual functions of a PF that is an 82576 itself.',
      });
    }
    return new VirtualFunction(host, physical.card, index);
  },
};

const physicalDeclaration: PciDeclaration = {
  name: '82576',
  vendor: INTEL_VENDOR,
  device: I82576_DEVICE,
  subsystemVendor: INTEL_VENDOR,
  subsystem: 0,
  revision: 1,
  classCode: classCodes.ethernet,
  bars: [
    { index: Bar.REGISTERS, size: I82576_BAR_BYTES, type: 'mem32' },
    { index: Bar.FLASH, size: FLASH_BYTES, type: 'mem32' },
    { index: Bar.IO, size: IO_BYTES, type: 'io' },
    { index: Bar.MSIX, size: MSIX_BYTES, type: 'mem64' },
  ],
  interruptPin: 1,
  capabilities: [
    pm({ version: 3, dsi: true, pme: ['D0', 'D3hot', 'D3cold'], noSoftReset: false, at: 0x40 }),
    msi({ vectors: 1, is64: true, maskable: true, at: 0x50 }),
    msix({ vectors: PF_MESSAGES, tableBar: Bar.MSIX, tableOffset: 0, pbaBar: Bar.MSIX, pbaOffset: MSIX_PENDING, at: 0x70 }),
    pcie({ flr: true, at: 0xa0 }),
  ],
  extendedCapabilities: [aer({ version: 1, at: 0x100 }), ari({ at: 0x150 })],
};

/** The VF's half of SR-IOV (9.7). */
export const virtualDeclaration: PciDeclaration = {
  name: '82576-vf',
  vendor: INTEL_VENDOR,
  device: I82576_VF_DEVICE,
  subsystemVendor: INTEL_VENDOR,
  subsystem: 0,
  revision: 1,
  classCode: classCodes.ethernet,
  bars: [
    { index: Bar.REGISTERS, size: I82576_VF_BAR_BYTES, type: 'mem64', prefetchable: true },
    { index: Bar.MSIX, size: MSIX_BYTES, type: 'mem64', prefetchable: true },
  ],
  capabilities: [
    msix({ vectors: I82576_VF_VECTORS, tableBar: Bar.MSIX, tableOffset: 0, pbaBar: Bar.MSIX, pbaOffset: MSIX_PENDING, at: 0x70 }),
    pcie({ flr: true, at: 0xa0 }),
  ],
  extendedCapabilities: [aer({ version: 1, at: 0x100 }), ari({ at: 0x150 })],
};

function checkVfs(vfs: number): number {
  if (Number.isInteger(vfs) && vfs >= 0 && vfs <= POOLS) return vfs;
  throw new VfioError('EINVAL', `vfs of 82576 is ${vfs}`, { fix: `Give a number from 0 to ${POOLS}.` });
}

/** @throws VfioError EINVAL for what is no address of one station */
function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new VfioError('EINVAL', `mac of 82576 is ${JSON.stringify(text)}`, { fix: 'Give six bytes: 52:54:00:12:34:56.' });
  }
  const mac = Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
  if ((mac[0]! & 1) !== 0 || mac.every((byte) => byte === 0)) {
    throw new VfioError('EINVAL', `mac of 82576 is ${text}, which is no address of one station`, {
      fix: 'Give one whose first byte is even, and which is not all zeroes.',
    });
  }
  return mac;
}

function randomMac(): Uint8Array {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  mac.set([0x52, 0x54, 0x00]);
  return mac;
}
