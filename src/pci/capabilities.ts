/**
 * Builders of capabilities: power-on bytes, the bits that software can write in hardware, and those it clears by writing one. What VFIO lets
 * through of that is another matter, see permissions.ts. Extended capabilities are in extended-capabilities.ts.
 */

import { Af, CapId, Msi, Msix, PciExp, PciExpType, Pcix, Pm, Vndr, Vpd } from '../abi/pci.ts';
import { checkIndex, hex } from '../base/check.ts';
import { VfioError } from '../base/errno.ts';
import { CapabilityBuilder, type Placed } from './capability-builder.ts';
import type { Capability } from './declaration.ts';

export * from './extended-capabilities.ts';

/** Aux_Current, by its value in PMC. */
const AUX_CURRENTS_MA = [0, 55, 100, 160, 220, 270, 320, 375] as const;
const pmeStates = ['D0', 'D1', 'D2', 'D3hot', 'D3cold'] as const;

export interface PmOptions extends Placed {
  /** Default: 3. */
  readonly version?: number;
  /** False: leaving D3hot resets the function. Default: true. */
  readonly noSoftReset?: boolean;
  readonly d1?: boolean;
  readonly d2?: boolean;
  /** States from which the function can wake the machine; true: D0 and D3hot. Default: none. */
  readonly pme?: boolean | readonly (typeof pmeStates)[number][];
  /** PME needs the PCI clock. */
  readonly pmeClock?: boolean;
  /** The function has to be set up by its driver before it works (Device Specific Initialization). */
  readonly dsi?: boolean;
  /** Immediate_Readiness_on_Return_to_D0. */
  readonly immediateReadiness?: boolean;
  /**
   * The current that the function draws from auxiliary power to wake from D3cold: 0 (default), 55,
   * 100, 160, 220, 270, 320 or 375 mA.
   */
  readonly auxCurrentMa?: (typeof AUX_CURRENTS_MA)[number];
}

/** Power management: D0 and D3hot always; everything else on request. @throws VfioError EINVAL */
export function pm(options: PmOptions = {}): Capability {
  const from = options.pme === true ? ['D0', 'D3hot'] : options.pme === undefined || options.pme === false ? [] : options.pme;
  let pmc = checkIndex(options.version ?? 3, Pm.PMC_VERSION_MASK, 'power management version');
  for (const state of from) {
    const index = (pmeStates as readonly string[]).indexOf(state);
    if (index === -1) throw new VfioError('EINVAL', `PME from ${String(state)}: the states are ${pmeStates.join(', ')}`);
    if ((index === 1 && options.d1 !== true) || (index === 2 && options.d2 !== true)) {
      throw new VfioError('EINVAL', `PME from ${state} on a function that does not support ${state}`, {
        fix: `Add ${state.toLowerCase()}: true.`,
      });
    }
    pmc |= 1 << (Pm.PMC_PME_SHIFT + index);
  }
  const aux = AUX_CURRENTS_MA.indexOf(options.auxCurrentMa ?? 0);
  if (aux === -1) {
    throw new VfioError('EINVAL', `auxCurrentMa is ${String(options.auxCurrentMa)}; it must be one of ${AUX_CURRENTS_MA.join(', ')}`);
  }
  pmc |= aux << Pm.PMC_AUX_SHIFT;
  const flags = [
    [options.d1, Pm.PMC_D1],
    [options.d2, Pm.PMC_D2],
    [options.pmeClock, Pm.PMC_PME_CLOCK],
    [options.dsi, Pm.PMC_DSI],
    [options.immediateReadiness, Pm.PMC_IMM_READY],
  ] as const;
  for (const [on, bit] of flags) if (on === true) pmc |= bit;
  const pme = from.length > 0;
  return new CapabilityBuilder(Pm.SIZE)
    .set(Pm.PMC, 2, pmc)
    .set(
      Pm.CTRL,
      2,
      options.noSoftReset === false ? 0 : Pm.CTRL_NO_SOFT_RESET,
      Pm.CTRL_STATE_MASK | (pme ? Pm.CTRL_PME_ENABLE : 0),
      pme ? Pm.CTRL_PME_STATUS : 0,
    )
    .build({ id: CapId.PM, name: 'Power Management', at: options.at });
}

/** MSI with `vectors` messages: 1, 2, 4, 8, 16 or 32. @throws VfioError EINVAL for another number */
export function msi(options: { vectors?: number; is64?: boolean; maskable?: boolean } & Placed = {}): Capability {
  const vectors = options.vectors ?? 1;
  const log2 = Math.log2(vectors);
  if (!Number.isInteger(log2) || vectors < 1 || vectors > Msi.MAX_VECTORS) {
    throw new VfioError('EINVAL', `MSI cannot have ${String(vectors)} vectors; a power of two from 1 to ${Msi.MAX_VECTORS}`);
  }
  const is64 = options.is64 !== false;
  const maskable = options.maskable === true;
  const size = is64 ? (maskable ? Msi.SIZE_64_MASKED : Msi.SIZE_64) : maskable ? Msi.SIZE_32_MASKED : Msi.SIZE_32;
  const flags = (log2 << Msi.FLAGS_QMASK_SHIFT) | (is64 ? Msi.FLAGS_64BIT : 0) | (maskable ? Msi.FLAGS_MASKBIT : 0);
  const builder = new CapabilityBuilder(size)
    .set(Msi.FLAGS, 2, flags, Msi.FLAGS_ENABLE | Msi.FLAGS_QSIZE)
    .set(Msi.ADDRESS_LO, 4, 0, 0xffff_fffc);
  if (is64) builder.set(Msi.ADDRESS_HI, 4, 0, 0xffff_ffff);
  builder.set(is64 ? Msi.DATA_64 : Msi.DATA_32, 2, 0, 0xffff);
  if (maskable) builder.set(is64 ? Msi.MASK_64 : Msi.MASK_32, 4, 0, vectors === 32 ? 0xffff_ffff : 2 ** vectors - 1);
  return builder.build({ id: CapId.MSI, name: 'MSI', at: options.at });
}

/** MSI-X with 1 to 2048 vectors, its table and pending bits in memory BARs at multiples of 8. @throws VfioError EINVAL */
export function msix(
  options: { vectors: number; tableBar?: number; tableOffset?: number; pbaBar?: number; pbaOffset?: number } & Placed,
): Capability {
  const { vectors } = options;
  if (!Number.isInteger(vectors) || vectors < 1 || vectors > Msix.MAX_VECTORS) {
    throw new VfioError('EINVAL', `MSI-X cannot have ${String(vectors)} vectors; from 1 to ${Msix.MAX_VECTORS}`);
  }
  const place = (what: string, bar: number, offset: number) => {
    checkIndex(bar, 5, `BAR of the MSI-X ${what}`);
    checkIndex(offset, 0xffff_ffff, `offset of the MSI-X ${what}`);
    if (offset % 8 !== 0) throw new VfioError('EINVAL', `the MSI-X ${what} cannot be at ${hex(offset)}: its offset is a multiple of 8`);
    return (offset | bar) >>> 0;
  };
  const tableBar = options.tableBar ?? 0;
  const tableOffset = options.tableOffset ?? 0;
  const table = place('table', tableBar, tableOffset);
  const pba = place('pending bits', options.pbaBar ?? tableBar, options.pbaOffset ?? tableOffset + Msix.ENTRY_SIZE * vectors);
  return new CapabilityBuilder(Msix.SIZE)
    .set(Msix.FLAGS, 2, vectors - 1, Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL)
    .set(Msix.TABLE, 4, table)
    .set(Msix.PBA, 4, pba)
    .build({ id: CapId.MSIX, name: 'MSI-X', at: options.at });
}

export type PciePortType =
  | 'endpoint'
  | 'legacy-endpoint'
  | 'root-port'
  | 'upstream'
  | 'downstream'
  | 'rc-endpoint'
  | 'pcie-to-pci'
  | 'pci-to-pcie';

const portTypes = {
  endpoint: PciExpType.ENDPOINT,
  'legacy-endpoint': PciExpType.LEG_END,
  'root-port': PciExpType.ROOT_PORT,
  upstream: PciExpType.UPSTREAM,
  downstream: PciExpType.DOWNSTREAM,
  'rc-endpoint': PciExpType.RC_END,
  'pcie-to-pci': PciExpType.PCI_BRIDGE,
  'pci-to-pcie': PciExpType.PCIE_BRIDGE,
} as const satisfies Record<PciePortType, number>;

export interface PcieOptions extends Placed {
  readonly portType?: PciePortType;
  /** 1 or 2 (default). */
  readonly version?: 1 | 2;
  /** Function-level reset. */
  readonly flr?: boolean;
  /** Largest payload the device takes: 128 (default) to 4096 bytes. */
  readonly maxPayload?: number;
  /** Link speed 1 (2.5 GT/s, default) to 6, and width in lanes (1). Not for root-complex integrated endpoints. */
  readonly linkSpeed?: number;
  readonly linkWidth?: number;
  /**
   * A port that reports Data Link Layer Link Active, and the value. Default: the port does not
   * report it.
   */
  readonly linkActive?: boolean;
  /** Port number, of ports. */
  readonly port?: number;
  readonly slot?: boolean;
  /** DEVCTL bits that the hardware implements. Default: the four error reporting enables, as QEMU's devices. FLR is a command, never stored. */
  readonly deviceControl?: number;
  /** Interrupt message number. */
  readonly interruptMessage?: number;
}

/** PCI Express. @throws VfioError EINVAL for a payload, speed or width that there is not */
export function pcie(options: PcieOptions = {}): Capability {
  const portType = options.portType ?? 'endpoint';
  if (!Object.hasOwn(portTypes, portType)) throw new VfioError('EINVAL', `unknown PCI Express port type ${String(portType)}`);
  const version = options.version ?? 2;
  const linked = portType !== 'rc-endpoint';
  const payload = Math.log2(options.maxPayload ?? 128) - 7;
  if (!Number.isInteger(payload) || payload < 0 || payload > 5) {
    throw new VfioError('EINVAL', `maximum payload is ${String(options.maxPayload)}; it must be a power of two from 128 to 4096`);
  }
  const speed = checkIndex(options.linkSpeed ?? 1, 6, 'link speed');
  const width = options.linkWidth ?? 1;
  if (speed === 0 || ![1, 2, 4, 8, 12, 16, 32].includes(width)) {
    throw new VfioError('EINVAL', `a PCI Express link cannot have speed ${speed} and ${String(width)} lanes`);
  }
  const size = version === 1 ? (linked ? PciExp.SIZE_V1 : PciExp.SIZE_V1_NO_LINK) : linked ? PciExp.SIZE_V2_FULL : PciExp.SIZE_V2_NO_LINK;
  const flags =
    version |
    (portTypes[portType] << PciExp.FLAGS_TYPE_SHIFT) |
    (options.slot === true ? PciExp.FLAGS_SLOT : 0) |
    (checkIndex(options.interruptMessage ?? 0, 31, 'interrupt message number') << 9);
  const reporting = PciExp.DEVCTL_CERE | PciExp.DEVCTL_NFERE | PciExp.DEVCTL_FERE | PciExp.DEVCTL_URRE;
  const control = checkIndex(options.deviceControl ?? reporting, 0xffff, 'writable bits of device control') & ~PciExp.DEVCTL_BCR_FLR;
  const builder = new CapabilityBuilder(size)
    .set(PciExp.FLAGS, 2, flags)
    .set(PciExp.DEVCAP, 4, payload | PciExp.DEVCAP_EXT_TAG | PciExp.DEVCAP_RBER | (options.flr === true ? PciExp.DEVCAP_FLR : 0))
    .set(PciExp.DEVCTL, 2, 0, control)
    .set(PciExp.DEVSTA, 2, 0, 0, PciExp.DEVSTA_ERRORS);
  if (linked) {
    const port = checkIndex(options.port ?? 0, 0xff, 'port number');
    const reports = options.linkActive === undefined ? 0 : PciExp.LNKCAP_DLLLARC;
    builder
      .set(PciExp.LNKCAP, 4, ((port << 24) | reports | 0x400 | (width << 4) | speed) >>> 0)
      .set(PciExp.LNKCTL, 2, 0, 0x00c3)
      .set(PciExp.LNKSTA, 2, (options.linkActive === true ? PciExp.LNKSTA_DLLLA : 0) | (width << 4) | speed);
  }
  if (version === 2) {
    builder.set(PciExp.DEVCAP2, 4, 0x0030_0000).set(PciExp.DEVCTL2, 2, 0, PciExp.DEVCTL2_EETLPPB | (linked ? 0 : PciExp.DEVCTL2_ARI));
    if (linked && speed > 1) builder.set(PciExp.LNKCAP2, 4, (2 ** speed - 1) << 1).set(PciExp.LNKCTL2, 2, speed, 0x000f);
  }
  return builder.build({ id: CapId.EXP, name: 'PCI Express', at: options.at });
}

/** Vital product data with the image it reads out; config-space.ts answers its two registers. */
export interface VpdCapability extends Capability {
  readonly image: Uint8Array;
}

/** Vital product data. `image` has at most 32 KiB, a multiple of 4. @throws VfioError EINVAL */
export function vpd(image: Uint8Array, options: Placed = {}): VpdCapability {
  if (image.length > Vpd.ADDR_MASK + 1 || image.length % 4 !== 0) {
    throw new VfioError('EINVAL', `a VPD image cannot have ${image.length} bytes; a multiple of 4 up to 32768`);
  }
  const builder = new CapabilityBuilder(Vpd.SIZE).set(Vpd.ADDR, 2, 0, 0xffff).set(Vpd.DATA, 4, 0, 0xffff_ffff);
  return { ...builder.build({ id: CapId.VPD, name: 'Vital Product Data', at: options.at }), image: image.slice() };
}

/** Vendor-specific: `body` follows the length byte. Read-only in hardware unless `writable` says which bits are not. */
export function vendorSpecific(body: Uint8Array, options: { writable?: Uint8Array | true } & Placed = {}): Capability {
  const size = Vndr.LENGTH + 1 + body.length;
  if (size > 0xc0) throw new VfioError('EINVAL', `a vendor-specific capability cannot have ${size} bytes; there is room for 192`);
  const builder = new CapabilityBuilder(size).set(Vndr.LENGTH, 1, size);
  builder.bytes.set(body, Vndr.LENGTH + 1);
  if (options.writable === true) builder.writable.fill(0xff, Vndr.LENGTH + 1);
  else if (options.writable !== undefined) builder.writable.set(options.writable.subarray(0, body.length), Vndr.LENGTH + 1);
  return builder.build({ id: CapId.VNDR, name: 'Vendor Specific', at: options.at });
}

/** Advanced features: function-level reset of conventional PCI. */
export function af(options: { flr?: boolean } & Placed = {}): Capability {
  return new CapabilityBuilder(Af.SIZE)
    .set(Af.LENGTH, 1, Af.SIZE)
    .set(Af.CAP, 1, Af.CAP_TP | (options.flr === false ? 0 : Af.CAP_FLR))
    .build({ id: CapId.AF, name: 'Advanced Features', at: options.at });
}

/** PCI-X; version 0 has 8 bytes, 1 and 2 have 24 with the ECC registers. */
export function pcix(options: { version?: 0 | 1 | 2 } & Placed = {}): Capability {
  const version = options.version ?? 0;
  const builder = new CapabilityBuilder(version === 0 ? Pcix.SIZE_V0 : Pcix.SIZE_V2)
    .set(Pcix.CMD, 2, version << Pcix.CMD_VERSION_SHIFT, 0x007f)
    .set(Pcix.STATUS, 4, 0, 0, 0x200c_0000);
  if (version !== 0) builder.set(Pcix.ECC_CSR, 4, 0, 0x1f00_0f00);
  return builder.build({ id: CapId.PCIX, name: 'PCI-X', at: options.at });
}

/** Any other capability: `bytes` from the third byte on (the header comes from the chain). Read-only unless masks are given. */
export function otherCapability(
  id: number,
  name: string,
  bytes: Uint8Array,
  options: { writable?: Uint8Array; writeOneClears?: Uint8Array } & Placed = {},
): Capability {
  const builder = new CapabilityBuilder(2 + bytes.length);
  builder.bytes.set(bytes, 2);
  builder.writable.set((options.writable ?? new Uint8Array(0)).subarray(0, bytes.length), 2);
  builder.writeOneClears.set((options.writeOneClears ?? new Uint8Array(0)).subarray(0, bytes.length), 2);
  return builder.build({ id: checkIndex(id, 0xff, 'capability id'), name, at: options.at });
}
