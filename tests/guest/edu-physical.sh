# Drives each educational device that the kernel command line names as edu.NAME=BDF by physical
# addresses, in a guest without an IOMMU.
for word in $(cat /proc/cmdline); do
  case $word in
    edu.*=*) word=${word#edu.} ;;
    *) continue ;;
  esac
  echo "@ ${word%%=*} pci.vendor $(cat "/sys/bus/pci/devices/${word#*=}/vendor")"
  guest bar "${word%%=*}" "${word#*=}"
  guest physical "${word%%=*}" "${word#*=}"
done
true
