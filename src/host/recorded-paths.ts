/** The files of a computer that a picture needs, out of all that an archive may hold. */

/** Files and links in the folder of a PCI device. */
const deviceEntries =
  /^(?:config|vendor|device|subsystem_vendor|subsystem_device|class|revision|resource|driver|driver_override|iommu|iommu_group|numa_node|irq|physfn|virtfn\d+|sriov_\w+|secondary_bus_number|max_link_speed|reset_method|boot_vga|vfio-dev(?:\/.*)?)$/;

const whole =
  /^(?:sys\/bus\/pci\/(?:devices|slots)|sys\/kernel\/iommu_groups|sys\/class\/iommu|sys\/module\/(?:vfio\w*|iommufd)|sos_commands\/(?:pci|host|hardware|kernel)|proc\/(?:cmdline|version|interrupts|bus\/pci|hwloc-nofile-info|sys\/kernel\/(?:hostname|osrelease))|etc\/hostname|hostname|uname)(?:\/|$)/;

/** `devices/pci0000:00/0000:00:1c.0/…`, also below controllers of a platform. */
const below =
  /^sys\/devices\/(?:.*\/)?pci[0-9a-f]{4,8}:[0-9a-f]{2}((?:\/(?:pci)?[0-9a-f]{4,8}:[0-9a-f]{2}(?::[0-9a-f]{2}\.[0-7])?)*)(?:\/(.*))?$/i;
const begins = /(?:^|\/)(?=(?:sys\/(?:bus|devices|kernel|class|module)|proc|sos_commands|etc|hostname|uname)(?:\/|$))/;

/** The path without the folder that an archive puts above all files; null where it has none. */
export function rootOf(path: string): string | null {
  const at = begins.exec(path);
  return at === null ? null : path.slice(0, at.index + at[0].length);
}

/** Whether a picture may need the entry of an archive. */
export function isWanted(path: string): boolean {
  const root = rootOf(path);
  if (root === null || root.split('/').length > 4) return false;
  const rest = path.slice(root.length);
  if (whole.test(rest)) return true;
  const device = below.exec(rest);
  return device !== null && (device[2] === undefined || deviceEntries.test(device[2]));
}
