/** Names of functions for people, from the database of PCI ids where there is one. */
import { loadPciNames } from '../config/pci-names.ts';

/** The name of a function: of its device, or of its class where the device has none. */
export function functionNames(): (fn: { readonly vendor: string; readonly device: string; readonly class: string }) => string {
  const names = loadPciNames();
  return ({ vendor, device, class: code }) => {
    const [v, d] = [Number.parseInt(vendor, 16), Number.parseInt(device, 16)];
    const [base, sub] = [Number.parseInt(code.slice(0, 2), 16), Number.parseInt(code.slice(2, 4), 16)];
    const maker = names.vendor(v);
    const own = names.device(v, d);
    if (own !== undefined) return `${maker ?? ''} ${own}`.trim();
    return names.subClass(base, sub) ?? names.baseClass(base) ?? `class ${code}`;
  };
}
