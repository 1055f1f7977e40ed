using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sandbox.Isolation.Firecracker.Memory.Userfault;

/// <summary>A piece of a machine's memory, as its process has mapped it. All in bytes.</summary>
/// <param name="BaseHostVirtAddr">Where it begins in the process.</param>
/// <param name="Size">Its length.</param>
/// <param name="Offset">Where it begins in the memory file.</param>
/// <param name="PageSize">Size of its pages; absent in older versions.</param>
internal sealed record UserfaultRegion(ulong BaseHostVirtAddr, ulong Size, ulong Offset, ulong? PageSize)
{
    public const ulong Page = 4096;

    /// <summary>Most regions: memory below and above the hole for devices, and some to spare.</summary>
    private const int MaxRegions = 16;

    /// <summary>Reads what a process says of its memory, and believes nothing that does not fit the file.</summary>
    /// <param name="message">A JSON array.</param>
    /// <param name="length">Bytes of the memory file, all of which the regions must cover once.</param>
    /// <exception cref="InvalidDataException">It is not of that form, or does not fit.</exception>
    public static IReadOnlyList<UserfaultRegion> Parse(ReadOnlySpan<byte> message, long length)
    {
        UserfaultRegion[]? regions;
        try
        {
            regions = JsonSerializer.Deserialize(message, UserfaultJson.Default.UserfaultRegionArray);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"The description of the memory is no JSON of the expected form: {e.Message}", e);
        }

        if (regions is null or { Length: 0 or > MaxRegions } || regions.Any(r => r is null))
        {
            throw new InvalidDataException($"The description of the memory must have 1 to {MaxRegions} regions.");
        }

        var next = 0UL;
        foreach (var region in regions.OrderBy(r => r.Offset))
        {
            if (region.PageSize is not (null or Page))
            {
                throw new InvalidDataException($"The memory has pages of {region.PageSize} bytes; only pages of {Page} are served.");
            }

            if (region.Size == 0 || (region.BaseHostVirtAddr | region.Size | region.Offset) % Page != 0 || region.BaseHostVirtAddr + region.Size < region.BaseHostVirtAddr)
            {
                throw new InvalidDataException("A region of the memory is empty, or is not made of whole pages.");
            }

            if (region.Offset != next || region.Size > (ulong)length - next)
            {
                throw new InvalidDataException("The regions of the memory do not follow one another in the memory file.");
            }

            next += region.Size;
        }

        return next == (ulong)length ? regions : throw new InvalidDataException($"The regions of the memory have {next} bytes; the memory file has {length}.");
    }

    /// <summary>Whether an address lies in it.</summary>
    public bool Holds(ulong address) => address >= BaseHostVirtAddr && address - BaseHostVirtAddr < Size;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower)]
[JsonSerializable(typeof(UserfaultRegion[]))]
internal sealed partial class UserfaultJson : JsonSerializerContext;
