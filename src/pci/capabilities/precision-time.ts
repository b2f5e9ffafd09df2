/** Precision time measurement: the clock of the root in devices (PCI Express Base 6.0, 7.9.15). */
import { ExtCapId } from '../../abi/pci.ts';
import { choice } from '../decode/text.ts';
import { hidden, Why } from '../permissions/rows.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

const decode: CapabilityDecoder = (r, d) => {
  const title = 'Precision Time Measurement';
  if (!r.has(4, 8)) return { title };
  d.line('PTMCap', r.u32(4), '\t\tPTMCap: Requester{0} Responder{1} Root{2}');
  d.line('PTMCap', r.u32(4), '\t\tPTMClockGranularity: {15:8 granularity}');
  d.line('PTMControl', r.u32(8), '\t\tPTMControl: Enabled{0} RootSelected{1}');
  d.line('PTMControl', r.u32(8), '\t\tPTMEffectiveGranularity: {15:8 effective}');
  return { title };
};

const nanoseconds = (none: string) => choice([none], (value) => (value === 255 ? 'Greater than 254ns' : `${value}ns`));

export const precisionTime: CapabilityKind = {
  id: ExtCapId.PTM,
  extended: true,
  name: 'Precision Time Measurement',
  access: hidden(Why.REACHES_BEYOND),
  choices: { granularity: nanoseconds('Unimplemented'), effective: nanoseconds('Unknown') },
  decode,
};
