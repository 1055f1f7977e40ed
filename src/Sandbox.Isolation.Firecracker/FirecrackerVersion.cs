using System.Globalization;
using System.Text.RegularExpressions;

namespace Sandbox.Isolation.Firecracker;

/// <summary>A version of Firecracker, as <c>firecracker --version</c> prints it: <c>Firecracker v1.14.0</c>, with <c>-dev</c> and the like behind it.</summary>
internal sealed partial record FirecrackerVersion(int Major, int Minor, int Patch)
{
    /// <summary>The first that describes its devices to the guest through ACPI. Debian's kernel knows no other way: it is built without devices on the command line and without MP tables.</summary>
    public static FirecrackerVersion Oldest { get; } = new(1, 8, 0);

    /// <summary>The major version whose API this driver was written against (its specification says 1.17).</summary>
    public const int KnownMajor = 1;

    /// <summary>
    /// Whether a load says <c>track_dirty_pages</c>. Earlier ones call it <c>enable_diff_snapshots</c>, which the specification of 1.17 still takes and calls deprecated; where exactly the new name came in was
    /// not looked up, and from here on it is certain enough.
    /// </summary>
    public bool TracksByNewName => (Major, Minor).CompareTo((1, 15)) >= 0;

    /// <summary>The version in what the program prints, or <see langword="null"/>.</summary>
    public static FirecrackerVersion? Parse(string text)
    {
        var match = Text().Match(text);
        return match.Success ? new FirecrackerVersion(Number(match, 1), Number(match, 2), Number(match, 3)) : null;
    }

    /// <summary>Why this one is not used, or <see langword="null"/>.</summary>
    public string? Problem => (Major, Minor, Patch).CompareTo((Oldest.Major, Oldest.Minor, Oldest.Patch)) < 0
        ? $"Firecracker {this} is too old: guests need the ACPI tables that {Oldest} and later give them"
        : Major != KnownMajor ? $"Firecracker {this} has an API of another major version than {KnownMajor}, which this driver speaks" : null;

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Major}.{Minor}.{Patch}");

    private static int Number(Match match, int group) => int.Parse(match.Groups[group].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"\AFirecracker v(\d{1,5})\.(\d{1,5})\.(\d{1,5})")]
    private static partial Regex Text();
}
