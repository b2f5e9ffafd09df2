/** `--fail CALL:N:ERRNO`: the system call, or the step of the engine, that fails once. */
import { Errno, type ErrnoName, VfioError } from '../base/errno.ts';
import type { ValueKind } from './values.ts';

export interface Fault {
  /** As it was typed: `MAP_DMA`. */
  readonly call: string;
  readonly errno: ErrnoName;
  /** How often the step succeeds before. */
  readonly skip: number;
}

export const fault: ValueKind = {
  parse: (text): Fault => {
    const [name = '', ...rest] = text.split(':');
    const [count = '1', errno = ''] = rest.length > 1 ? rest : ['1', rest[0]];
    const code = errno.toUpperCase();
    if (!/^[1-9]\d{0,8}$/.test(count) || !Object.hasOwn(Errno, code) || rest.length > 2) {
      throw new VfioError('EINVAL', `${text.slice(0, 60)} is no fault`, { fix: 'Give CALL:N:ERRNO, such as VFIO_IOMMU_MAP_DMA:3:ENOMEM.' });
    }
    return { call: name, errno: code as ErrnoName, skip: Number(count) - 1 };
  },
  suggest: async (word) => {
    const { callNames } = await import('./exec/call-names.ts');
    return callNames.filter((name) => name.startsWith(word)).map((name) => ({ value: `${name}:` }));
  },
};
