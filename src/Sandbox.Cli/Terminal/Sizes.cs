using System.Globalization;
using System.Text.Json.Nodes;

namespace Sandbox.Cli.Terminal;

/// <summary>Sizes for people, and sizes that people write.</summary>
internal static class Sizes
{
    /// <summary>For example <c>1.4 MiB</c>.</summary>
    public static string Show(long bytes) => bytes switch
    {
        < 1024 => string.Create(CultureInfo.InvariantCulture, $"{bytes} B"),
        < 1024 * 1024 => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1024.0:0.#} KiB"),
        < 1024L * 1024 * 1024 => string.Create(CultureInfo.InvariantCulture, $"{bytes / (1024.0 * 1024):0.#} MiB"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{bytes / (1024.0 * 1024 * 1024):0.##} GiB"),
    };

    /// <summary>Reads MiB from <c>512</c>, <c>512M</c>, <c>2G</c>.</summary>
    public static int? ParseMiB(string text)
    {
        var digits = text.TrimEnd('i', 'B', 'b');
        var factor = digits.Length > 0 && char.ToUpperInvariant(digits[^1]) is 'G' ? 1024 : 1;
        digits = digits.TrimEnd('m', 'M', 'g', 'G');
        return int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number > 0 && number <= int.MaxValue / factor ? number * factor : null;
    }

    /// <summary>Puts a duration that an option gave, if it gave one, into the body of a call.</summary>
    public static void AddTime(JsonObject body, string member, string option, string? text)
    {
        if (text is not null)
        {
            body[member] = (ParseDuration(text) ?? throw new UserException($"{option} '{text}': write for example 90s, 5m or 2h", ExitCodes.Usage)).TotalSeconds;
        }
    }

    /// <summary>Reads a duration from <c>90</c> (seconds), <c>90s</c>, <c>5m</c>, <c>2h</c>, <c>1d</c>.</summary>
    public static TimeSpan? ParseDuration(string text)
    {
        if (text.Length == 0)
        {
            return null;
        }

        var factor = char.ToLowerInvariant(text[^1]) switch { 's' => 1, 'm' => 60, 'h' => 3600, 'd' => 86400, _ => 0 };
        var digits = factor == 0 ? text : text[..^1];
        return double.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number) && number > 0 && number < 1e8
            ? TimeSpan.FromSeconds(number * Math.Max(factor, 1))
            : null;
    }
}
