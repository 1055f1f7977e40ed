using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.WebUtilities;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Control;

/// <summary>Pages: <c>limit</c> (1 to 100) and <c>nextToken</c> in the query, the next token in the answer's header <c>x-next-token</c>.</summary>
internal static class Listing
{
    private const int MostAtOnce = 100;

    public static async Task<IResult> PageAsync<T>(HttpContext context, IAsyncEnumerable<(SessionInfo Info, string Order)> all, Func<SessionInfo, bool> wanted, Func<SessionInfo, T> show)
    {
        string? text = context.Request.Query["limit"];
        var limit = MostAtOnce;
        if (!string.IsNullOrEmpty(text) && !(int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out limit) && limit is >= 1 and <= MostAtOnce))
        {
            throw SandboxException.Invalid("limit", $"'limit' is a whole number from 1 to {MostAtOnce}.");
        }

        var page = new List<T>();
        var last = "";
        await foreach (var (info, order) in all)
        {
            if (!wanted(info))
            {
                continue;
            }

            if (page.Count == limit)
            {
                context.Response.Headers["x-next-token"] = last;
                break;
            }

            page.Add(show(info));
            last = order;
        }

        return ControlJson.Answer(page);
    }

    /// <summary>The filters of a list of sandboxes.</summary>
    public static Func<SessionInfo, bool> Filter(HttpContext context)
    {
        var query = context.Request.Query;
        var states = query["state"].SelectMany(s => (s ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries)).ToHashSet(StringComparer.Ordinal);
        if (states.FirstOrDefault(s => s is not ("running" or "paused")) is { } unknown)
        {
            throw SandboxException.Invalid("state", $"There is no state '{unknown}'; there are running and paused.");
        }

        var metadata = MetadataOf(query["metadata"]);
        var template = query["template"].ToString();
        string? startedAfter = query["startedAfter"];
        DateTimeOffset? after = string.IsNullOrEmpty(startedAfter) ? null
            : DateTimeOffset.TryParse(startedAfter, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var parsed) ? parsed
            : throw SandboxException.Invalid("startedAfter", "'startedAfter' is a time as RFC 3339 writes it.");
        return s => (states.Count == 0 || states.Contains(SandboxDetail.StateOf(s)))
            && metadata.All(m => s.Metadata.TryGetValue(m.Key, out var value) && value == m.Value)
            && (template.Length == 0 || Labels.Get(s, Labels.Template) == template || s.Template == template)
            && (after is null || s.CreatedAt > after);
    }

    /// <summary>The SDK encodes each name and value by itself, and then all of them as a query: what comes here is decoded once more than it looks.</summary>
    private static Dictionary<string, string> MetadataOf(string? text) => string.IsNullOrEmpty(text)
        ? []
        : QueryHelpers.ParseQuery(text).ToDictionary(p => Uri.UnescapeDataString(p.Key), p => Uri.UnescapeDataString(p.Value.ToString()), StringComparer.Ordinal);
}
