/**
 * Registers of a device's own in its config space: `config: configRegisters(Watchdog)` of
 * `device()`. Their handlers are those of `config.NAME`.
 */
import { VfioError } from '../../base/errno.ts';
import { checkRegisters, type ModelView, type Registers } from '../../base/registers.ts';
import type { ConfigRegister } from '../../pci/declaration.ts';
import type { Behaviours } from './register.ts';
import { RegisterLayout } from './register-layout.ts';

/** Bytes of a config space with PCI Express. */
const CONFIG_BYTES = 4096;

/** The result of `configRegisters`. */
export class ConfigRegisters<R extends Registers = Registers> {
  readonly registers: R;
  readonly layout: RegisterLayout;

  constructor(registers: R, behaviours: Behaviours<R>) {
    this.registers = registers;
    this.layout = new RegisterLayout(registers, behaviours, { end: CONFIG_BYTES, room: 'config space', holesReadOnes: false });
    for (const d of this.layout.declarations) {
      if (d !== null && d.bytes === 8)
        throw new VfioError('EINVAL', 'a register of config space has at most 32 bits', { fix: 'Declare two.' });
    }
  }

  /** As config space declares them: bytes and masks. */
  get declared(): readonly ConfigRegister[] {
    const { names, declarations } = this.layout;
    return declarations.flatMap((d, slot) =>
      d === null
        ? []
        : [
            {
              name: names[slot]!,
              offset: d.offset,
              bytes: d.bytes as 1 | 2 | 4,
              reset: Number(d.reset),
              writable: Number(d.writable),
              writeOneClears: Number(d.writeOneClears),
            },
          ],
    );
  }
}

/**
 * Config space as its device reads it: any of its bytes, and the device's own registers by name.
 */
export type ConfigView<C> = ModelConfig & (C extends ConfigRegisters<infer R> ? ModelView<R> : unknown);

/** Reads of the hardware's config space, little-endian and aligned. */
export interface ModelConfig {
  read8(offset: number): number;
  read16(offset: number): number;
  read32(offset: number): number;
}

/**
 * Registers of the device's own in config space, by their offset there: from 0x40 on. Capabilities
 * go elsewhere, unless `at` puts one there: then the registers are part of its body.
 *
 * @param behaviours the behaviour of each, where it is more than to keep bits
 */
export function configRegisters<R extends Registers>(map: R, behaviours: Behaviours<R> = {}): ConfigRegisters<R> {
  checkRegisters('configRegisters()', map);
  return new ConfigRegisters(map, behaviours);
}
