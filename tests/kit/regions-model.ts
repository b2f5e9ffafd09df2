// A device with regions that are no BARs: memory, registers by functions, and a read-only one.
import { bar, device, u32 } from '../../src/doors/index.ts';

export default device({
  id: '1234:7e91',
  name: 'regions',
  bars: { bar0: bar('4K', { fill: u32(0) }) },
  state: () => ({ words: [0, 0, 0, 0] }),
  regions: [
    { type: 0x8000_1234, subtype: 1, size: '8K' },
    {
      type: 0x8000_1234,
      subtype: 2,
      size: 16,
      read: ({ state }, offset) => state.words[offset >> 2]!,
      write({ state }, offset, _width, value) {
        state.words[offset >> 2] = value;
      },
    },
    { type: 0x8000_1234, subtype: 3, size: 6, read: (_, offset, width) => (0x665544332211 / 2 ** (8 * offset)) % 2 ** (8 * width) },
  ],
  on: {
    'bar0.fill'({ regions }, value) {
      regions[0]!.fill(value);
    },
  },
});
