import type { CommandSpec } from '../command.ts';
import { jsonOption, machineOption, selectOption, sysfsOption, vfTokenOption } from '../options.ts';
import { addressOrDump, numeral, oneOf } from '../values.ts';

export const explainWrite: CommandSpec = {
  name: 'explain-write',
  summary: 'explain a write to config space through VFIO: the bits that land, those that do not, and why',
  arguments: [
    {
      name: '<address>',
      help: 'the device: a BDF, sim:MODEL, unix:PATH, a file made by lspci -xxxx, or a recording of a computer',
      kind: addressOrDump,
    },
    { name: '<offset>', help: 'the first byte, such as 0x04', kind: numeral },
    { name: '<value>', help: 'the value to write, such as 0x0407', kind: numeral },
  ],
  options: [
    machineOption,
    vfTokenOption,
    selectOption,
    sysfsOption,
    { flags: '--width <bytes>', help: 'bytes of the write. Default: as many as the digits of VALUE', kind: oneOf(['1', '2', '4']) },
    jsonOption,
  ],
  notes: ['The command only explains: nothing is written.'],
  examples: ['vfio explain-write sim:edu 0x04 0x0407'],
  run: async () => (await import('../config/explain-write.ts')).explainWrite,
};
