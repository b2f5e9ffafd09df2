/** Capabilities of bridges and of old boards: short ones that VFIO hides. */
import { CapId } from '../../abi/pci.ts';
import { hidden, Why } from '../permissions/rows.ts';
import { type CapabilityKind, titleOnly } from './kind.ts';

/** Subsystem ids of a bridge. */
export const Ssvid = { VENDOR_ID: 4, DEVICE_ID: 6, SIZE: 8 } as const;

export const slotIdentification: CapabilityKind = {
  id: CapId.SLOTID,
  name: 'Slot Identification',
  access: hidden(Why.BRIDGES),
  decode: (r, d) => ({
    title: `${d.text('slot', r.u8(2), 'Slot ID: {slots=4:0} slots, First{5}')}, ${d.text('slot', r.u8(3), 'chassis {7:0 hex2}')}`,
  }),
};

export const bridgeSubsystem: CapabilityKind = {
  id: CapId.SSVID,
  name: 'Bridge Subsystem Ids',
  access: hidden(Why.BRIDGES),
  decode: (r, d) => ({ title: d.text('subsystem', r.u32(Ssvid.VENDOR_ID), 'Subsystem: {vendor=15:0 hex4}:{device=31:16 hex4}') }),
};

export const debugPort: CapabilityKind = {
  id: CapId.DBG,
  name: 'Debug Port',
  access: hidden(Why.NOT_SUPPORTED),
  decode: (r, d) => ({ title: d.text('port', r.u16(2), 'Debug port: BAR={15:13} offset={12:0 hex4}') }),
};

export const hotPlug: CapabilityKind = {
  id: CapId.SHPC,
  name: 'Hot-Plug Controller',
  access: hidden(Why.BRIDGES),
  decode: titleOnly('Hot-plug capable'),
};
