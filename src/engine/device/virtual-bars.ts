/**
 * The BARs in the user's copy of config space. A user sizes BARs and moves them as on hardware, and
 * hardware's own BARs stay where the host placed them: the copy shows the bits that hardware would
 * have.
 *
 * @see linux/drivers/vfio/pci/vfio_pci_config.c, vfio_bar_fixup(), vfio_bar_restore()
 */
import { Bar, Config } from '../../abi/pci.ts';
import { barAddressMask, barTypeBits } from '../../pci/bars.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';

interface BarFixup {
  /** Offset of the register. */
  readonly at: number;
  /** Bits that the user may write. */
  readonly keep: number;
  /** Bits that read as ones, whatever the user writes. */
  readonly set: number;
}

/** BAR 0 to 5, then the ROM BAR. */
const BAR_OFFSETS = [
  Config.BASE_ADDRESS_0,
  Config.BASE_ADDRESS_1,
  Config.BASE_ADDRESS_2,
  Config.BASE_ADDRESS_3,
  Config.BASE_ADDRESS_4,
  Config.BASE_ADDRESS_5,
  Config.ROM_ADDRESS,
] as const;

export class VirtualBars {
  /** The copy may hold bits that hardware does not have: `fix` before it is read. */
  dirty = true;
  readonly #config: ConfigSpace;
  readonly #copy: DataView;
  /**
   * Hardware's BARs and ROM BAR at open: these show a reset that the engine did not see, and repair
   * it.
   */
  readonly #real: readonly number[];
  readonly #fixups: readonly BarFixup[];

  /** @param copy the user's copy of config space */
  constructor(config: ConfigSpace, copy: DataView, isVirtualFunction: boolean) {
    this.#config = config;
    this.#copy = copy;
    this.#real = BAR_OFFSETS.map((at) => config.read(at, 4));
    this.#fixups = fixupsOf(config, isVirtualFunction);
  }

  /** Whether config bytes [first, end) hold a byte of a BAR or of the ROM BAR. */
  static overlaps(first: number, end: number): boolean {
    return first < Config.ROM_ADDRESS + 4 && end > Config.BASE_ADDRESS_0;
  }

  /** Give each BAR of the copy the bits that hardware would have. @see vfio_bar_fixup() */
  fix(): void {
    for (const { at, keep, set } of this.#fixups) this.#copy.setUint32(at, ((this.#copy.getUint32(at, true) & keep) | set) >>> 0, true);
    this.dirty = false;
  }

  /**
   * Hardware's BARs are not as they were at open: the function was reset by a way that the engine
   * did not see.
   */
  get moved(): boolean {
    for (let i = 0; i < Bar.COUNT; i++) {
      const real = this.#real[i]!;
      if (real !== 0 && real !== this.#config.read(BAR_OFFSETS[i]!, 4)) return true;
    }
    return false;
  }

  /** Put hardware's BARs back as they were at open. */
  restore(): void {
    this.#real.forEach((bar, i) => void this.#config.write(BAR_OFFSETS[i]!, 4, bar));
  }
}

/** A BAR that the host left unplaced is not there at all. */
function fixupsOf(config: ConfigSpace, isVirtualFunction: boolean): readonly BarFixup[] {
  const { declaration } = config;
  const isBridge = declaration.header === 'bridge';
  const fixups = new Map<number, BarFixup>();
  for (let i = 0; i < Bar.COUNT; i++) fixups.set(i, { at: Config.BASE_ADDRESS_0 + 4 * i, keep: 0, set: 0 });
  for (const bar of isBridge ? [] : (declaration.bars ?? [])) {
    if (!isVirtualFunction && config.barAddress(bar.index) === 0n) continue;
    const at = Config.BASE_ADDRESS_0 + 4 * bar.index;
    const mask = barAddressMask(bar.size);
    fixups.set(bar.index, { at, keep: mask.low, set: barTypeBits(bar) });
    if (bar.type === 'mem64') fixups.set(bar.index + 1, { at: at + 4, keep: mask.high, set: 0 });
  }
  const rom = config.romSize;
  const romThere = rom !== 0 && !isBridge && config.romAddress !== 0;
  fixups.set(Bar.COUNT, { at: Config.ROM_ADDRESS, keep: romThere ? (barAddressMask(rom).low | Bar.ROM_ENABLE) >>> 0 : 0, set: 0 });
  return [...fixups.values()];
}
