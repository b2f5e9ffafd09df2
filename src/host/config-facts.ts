/** The facts that a picture takes from the bytes of a config space. */
import { CapId, Cardbus, CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, Config, ExtCapId, HEADER_SIZE, HeaderType } from '../abi/pci.ts';
import { Acs } from '../pci/capabilities/access-control.ts';
import { PciExp } from '../pci/capabilities/pci-express-registers.ts';
import { Sriov } from '../pci/capabilities/single-root-virtualization.ts';
import { ConfigBytes, capabilityPointerAt, findCapability, findExtendedCapability } from '../pci/capabilities/walk.ts';
import type { HostAcs } from './host-picture.ts';

/** SR-IOV as its registers have it. */
export interface SriovRegisters {
  readonly totalVfs: number;
  readonly numVfs: number;
  readonly firstOffset: number;
  readonly stride: number;
  readonly vfDevice: number;
}

/** Facts of a function's registers. Undefined: too few bytes to know. */
export interface ConfigFacts {
  /** Type of the header; undefined without bytes. */
  readonly header: number | undefined;
  /** The bus behind a bridge; null for other functions. */
  readonly secondary: number | null | undefined;
  /** Port type of the PCI Express capability; null for a function without one. */
  readonly express: number | null | undefined;
  readonly acs: HostAcs | null | undefined;
  readonly sriov: SriovRegisters | null | undefined;
  readonly functionReset: boolean | undefined;
  /** Undefined without bytes, and for ids of all ones, as virtual functions have them. */
  readonly identity:
    | { readonly vendor: number; readonly device: number; readonly classCode: number; readonly revision: number }
    | undefined;
}

const nothing: ConfigFacts = {
  header: undefined,
  secondary: undefined,
  express: undefined,
  acs: undefined,
  sriov: undefined,
  functionReset: undefined,
  identity: undefined,
};

/** The facts in `bytes`: 64 of them without privilege, none for a device that does not answer. */
export function configFacts(bytes: Uint8Array): ConfigFacts {
  if (bytes.length < HEADER_SIZE || bytes.every((byte) => byte === 0xff)) return nothing;
  const header = bytes[Config.HEADER_TYPE]! & HeaderType.MASK;
  const secondary =
    header === HeaderType.BRIDGE ? bytes[Config.BRIDGE_SECONDARY_BUS]! : header === HeaderType.CARDBUS ? bytes[Cardbus.CARD_BUS]! : null;
  const identity = identityOf(bytes);
  if (bytes.length < CFG_SPACE_SIZE) return { ...nothing, header, secondary, identity };
  const config = new ConfigBytes(bytes);
  const at = findCapability(config, CapId.EXP, capabilityPointerAt(bytes));
  const express = at === 0 ? null : (config.read16(at + PciExp.FLAGS) & PciExp.FLAGS_TYPE) >> PciExp.FLAGS_TYPE_SHIFT;
  const functionReset = (at !== 0 && (config.read32(at + PciExp.DEVCAP) & PciExp.DEVCAP_FLR) !== 0) || hasAfReset(config);
  const known = { header, secondary, express, functionReset, identity };
  // A conventional function has no extended space, however few bytes there are.
  if (express === null) return { ...known, acs: null, sriov: null };
  if (bytes.length < CFG_SPACE_EXP_SIZE) return { ...known, acs: undefined, sriov: undefined };
  return { ...known, acs: acsOf(config), sriov: sriovOf(config) };
}

function identityOf(bytes: Uint8Array): ConfigFacts['identity'] {
  const word = (at: number) => bytes[at]! | (bytes[at + 1]! << 8);
  const vendor = word(Config.VENDOR_ID);
  if (vendor === 0xffff) return undefined;
  const classCode = (word(Config.CLASS_DEVICE) << 8) | bytes[Config.CLASS_PROG]!;
  return { vendor, device: word(Config.DEVICE_ID), classCode, revision: bytes[Config.REVISION_ID]! };
}

/** Advanced Features: capabilities at byte 3, function level reset is bit 1. */
function hasAfReset(config: ConfigBytes): boolean {
  const at = findCapability(config, CapId.AF);
  return at !== 0 && (config.read8(at + 3) & 2) !== 0;
}

function acsOf(config: ConfigBytes): HostAcs | null {
  const at = findExtendedCapability(config, ExtCapId.ACS);
  return at === 0 ? null : { capabilities: config.read16(at + Acs.CAP), control: config.read16(at + Acs.CTRL) };
}

function sriovOf(config: ConfigBytes): SriovRegisters | null {
  const at = findExtendedCapability(config, ExtCapId.SRIOV);
  if (at === 0 || at + Sriov.SIZE > CFG_SPACE_EXP_SIZE) return null;
  return {
    totalVfs: config.read16(at + Sriov.TOTAL_VF),
    numVfs: (config.read16(at + Sriov.CTRL) & Sriov.CTRL_VFE) === 0 ? 0 : config.read16(at + Sriov.NUM_VF),
    firstOffset: config.read16(at + Sriov.VF_OFFSET),
    stride: config.read16(at + Sriov.VF_STRIDE),
    vfDevice: config.read16(at + Sriov.VF_DID),
  };
}
